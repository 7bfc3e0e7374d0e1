"""`medloop data check` on small folders of real files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medloop.cloud.layout import PSEUDONYM_KEY
from medloop.dicom.library import load_pydicom
from medloop.local.state.home import BUCKET
from tests.unit.dicom.scanners import MadeSeries, save, segmentation
from tests.unit.imaging.datasets import write_image, write_subject


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes of four images, of six patients."""
    rng = np.random.default_rng(1)
    rows = ["path,patient"]
    for name in ("cyst", "naïve class"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(4):
            pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{index}.png")
            rows.append(f"{name}/{index}.png,{name[0]}{min(index, 2)}")
    (tmp_path / "set" / "patients.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path / "set"


def test_counts_by_class_and_patient(medloop: Any, images: Path) -> None:
    """A good data set: exit code 0, cases and patients of each class."""
    assert medloop("data", "check", str(images), "--task", "classification", "--json") == 0

    assert (medloop.json["num_cases"], medloop.json["num_patients"]) == (8, 6)
    assert medloop.json["classes"] == [
        {"name": "cyst", "num_cases": 4, "num_patients": 3},
        {"name": "naïve class", "num_cases": 4, "num_patients": 3},
    ]
    assert medloop.json["problems"] == []
    assert medloop("data", "check", str(images), "--task", "classification") == 0
    assert ["naïve", "class", "4", "3"] in [line.split() for line in medloop.out.splitlines()]


def test_problems_are_one_line_each(medloop: Any, images: Path) -> None:
    """Each bad file is a line of its own on stderr; the exit code is 2, with --json too."""
    (images / "cyst" / "0.png").write_text("text")
    (images / "cyst" / "1.png").write_bytes(b"")

    assert medloop("data", "check", str(images), "--task", "classification") == 2
    lines = medloop.err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["cyst/0.png", "cyst/1.png"]

    assert medloop("data", "check", str(images), "--task", "classification", "--json") == 2
    assert [p["path"] for p in medloop.json["problems"]] == ["cyst/0.png", "cyst/1.png"]
    assert medloop.err == ""


def test_a_folder_that_is_not_there(medloop: Any, tmp_path: Path) -> None:
    """An absent folder is named in one line."""
    assert medloop("data", "check", str(tmp_path / "no where"), "--task", "segmentation") == 2

    assert "no where" in medloop.err
    assert medloop.err.count("\n") == 1


def test_quarantining_runs_leave_bad_files_out(medloop: Any, images: Path, account: Any) -> None:
    """With on_invalid=quarantine a bad file is reported and doesn't stop the run; without, it does."""
    (images / "cyst" / "0.png").write_text("text")
    command = ("run", "classification", "--data", str(images), "--target", "aws")

    assert medloop(*command) == 2
    assert medloop.err.startswith("error: cyst/0.png: ")
    assert medloop(*command, "--set", "split.on_invalid=quarantine") == 2
    assert medloop.err.splitlines()[0].startswith("will be left out: cyst/0.png: ")
    assert "medloop data upload" in medloop.err


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ("background,lesion,lesion", "label values 1 and 2 have the same name 'lesion'"),
        ("background,,lesion", "label value 1 has an empty name"),
        ("lesion", "must name the background and at least one structure"),
    ],
)
def test_names_of_labels_that_no_job_takes(medloop: Any, tmp_path: Path, labels: str, reason: str) -> None:
    """The same rule as in the setting data.labels and in the split job."""
    assert medloop("data", "check", str(tmp_path), "--task", "segmentation", "--labels", labels) == 2
    assert medloop.err.startswith(f"error: --labels {labels}: {reason}")
    names = json.dumps(labels.split(","))
    assert medloop("run", "segmentation", "--data", str(tmp_path), "--set", f"data.labels={names}") == 2
    assert reason in medloop.err


def test_the_task_is_inferred(medloop: Any, images: Path, tmp_path: Path) -> None:
    """Images in class folders, or subjects with image and label; the choice is printed. Otherwise one has to choose."""
    assert medloop("data", "check", str(images)) == 0
    assert medloop.out.startswith("task: classification, by the folders; --task chooses another\n")
    assert "cases in the planned split: train " in medloop.out
    assert "time of a run with the default settings: about " in medloop.out
    assert medloop("data", "check", str(images), "--json") == 0
    assert (medloop.json["task"], sum(medloop.json["planned_split"].values())) == ("classification", 8)
    assert medloop.json["estimated_seconds"] > 30

    for index in range(3):
        write_subject(tmp_path / "volumes" / "train" / f"s{index}", index)
    assert medloop("data", "check", str(tmp_path / "volumes")) == 0
    assert medloop.out.startswith("task: segmentation, by the folders")

    write_subject(images / "s0", 9)
    (tmp_path / "empty" / "a").mkdir(parents=True)
    for folder, reason in ((images, "fits both tasks"), (tmp_path / "empty", "fits no task")):
        assert medloop("data", "check", str(folder)) == 2
        assert reason in medloop.err
        assert "; choose with --task classification or --task segmentation" in medloop.err


@pytest.mark.parametrize(
    ("files", "task", "message"),
    [
        (("imagesTr/c1_0000.nii.gz", "labelsTr/c1.nii.gz"), "segmentation", "has the layout of nnU-Net (contains"),
        (("sub-1/anat/sub-1_T1w.nii.gz",), "segmentation", "has the layout of BIDS (contains"),
        (("s1/flair.nii.gz", "s1/seg.nii.gz"), "segmentation", "has the layout of pairs of images and labels"),
        (("s1/flair.nii.gz", "s1/t1.nii.gz"), "segmentation", "has no img.nii.gz and label.nii.gz in any folder"),
        (("p1/series/1.dcm",), "classification", "contains DICOM files"),
        (("data/v1/cyst/1.png", "data/v1/normal/1.png"), "classification", "give {folder}/data/v1"),
        (("img.nii.gz", "label.nii.gz"), "segmentation", "is the folder of one subject"),
    ],
)
def test_another_layout_is_recognised_without_a_task(
    medloop: Any, tmp_path: Path, files: tuple[str, ...], task: str, message: str
) -> None:
    """The command without options prints the steps that it prints with the task."""
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"x")
    assert medloop("data", "check", str(tmp_path)) == 2
    assert message.format(folder=tmp_path) in medloop.err
    inferred = medloop.err
    assert medloop("data", "check", str(tmp_path), "--task", task) == 2
    assert medloop.err == inferred


def test_warnings_are_one_line_each_and_change_no_exit_code(medloop: Any, images: Path) -> None:
    """Without patients.csv a score gets no interval: a warning on stderr and in the document, exit code 0."""
    (images / "patients.csv").unlink()

    assert medloop("data", "check", str(images), "--task", "classification") == 0
    [line] = [line for line in medloop.err.splitlines() if "no patients.csv" in line]
    assert line.startswith(f"warning: {images}: has no patients.csv, so each image counts as its own patient")
    assert line.endswith("add patients.csv with the columns path and patient")
    assert "no problems" in medloop.out
    assert medloop("data", "check", str(images), "--task", "classification", "--json") == 0
    assert line in [f"warning: {warning['line']}" for warning in medloop.json["warnings"]]


def test_a_floor_of_an_unknown_class_is_refused_before_anything_runs(medloop: Any, images: Path, account: Any) -> None:
    """The line lists the classes of the data; a class in another Unicode form is known."""
    command = ("run", "classification", "--data", str(images), "--target", "aws", "--dry-run", "--set")
    assert medloop(*command, "evaluate.floors={Cyst: 0.5}") == 2
    line = medloop.err.splitlines()[-1]
    assert line == "error: evaluate.floors: class 'Cyst' is unknown; known: cyst, na\u00efve class"
    assert medloop(*command, "evaluate.floors={nai\u0308ve class: 0.5}") in (0, 2)
    assert "is unknown" not in medloop.err


def test_the_range_of_16_bit_images_is_that_of_the_training_split(medloop: Any, tmp_path: Path) -> None:
    """Training scales by it, so brighter test images don't change it here either: they are counted as clipped."""
    rng = np.random.default_rng(0)
    for split, high in (("train", 4095), ("val", 4095), ("test", 60000)):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(4):
                pixels = rng.integers(0, high, (16, 16)).astype(np.uint16)
                pixels[0, 0] = high
                Image.fromarray(pixels).save(tmp_path / split / name / f"{index}.png")
    assert medloop("data", "check", str(tmp_path), "--json") == 0, medloop.err
    images = medloop.json["images"]
    assert (images["value_range"], images["num_outside"]) == ([0, 4095], 8)


def test_a_floor_of_an_unknown_class_on_s3_is_refused_before_the_start(medloop: Any, account: Any) -> None:
    """The class folders are listed, those of train in a ready-made split; labels' names are known without the data."""
    for split in ("", "Training/", "test/"):
        for name in ("cyst", "na\u00efve"):
            account.objects[f"s3://bucket/{'split' if split else 'flat'}/{split}{name}/a.png"] = b"a"
    for folder in ("flat", "split"):
        command = ("run", "classification", "--data", f"s3://bucket/{folder}", "--target", "aws", "--yes", "--no-wait")
        assert medloop(*command, "--set", "evaluate.floors={Cyst: 0.5}") == 2
        assert medloop.err.splitlines()[-1] == (
            "error: evaluate.floors: class 'Cyst' is unknown; known: cyst, na\u00efve"
        )
        assert medloop(*command, "--set", "evaluate.floors={nai\u0308ve: 0.5}") == 0

    command = ("run", "segmentation", "--data", "s3://bucket/flat", "--target", "aws", "--dry-run", "--set")
    assert medloop(*command, "evaluate.floors={tumour: 0.5}") == 2
    assert "class 'tumour' is unknown: without data.labels structures are named label 1" in medloop.err
    assert medloop(*command, "evaluate.floors={background: 0.5}", "--set", "data.labels=[background, tumour]") == 2
    assert medloop.err.splitlines()[-1] == "error: evaluate.floors: class 'background' is unknown; known: tumour"


@pytest.mark.slow
def test_a_long_table_of_classes_is_cut(medloop: Any, tmp_path: Path) -> None:
    """A folder of patients as classes, or a label of 255 structures; JSON has all."""
    for number in range(40):
        write_image(tmp_path / f"class {number:02d}" / "a.png", number)
    medloop("data", "check", str(tmp_path), "--task", "classification")
    assert "... and 11 more; --json lists all" in medloop.out
    assert ("class 28" in medloop.out, "class 29" in medloop.out) == (True, False)
    medloop("data", "check", str(tmp_path), "--task", "classification", "--json")
    assert len(medloop.json["classes"]) == 40


def make_home(folder: Path) -> Path:
    """A home with a key of pseudonyms."""
    key = folder / "home" / "s3" / BUCKET / PSEUDONYM_KEY
    key.parent.mkdir(parents=True)
    key.write_bytes(b"k" * 32)
    return folder / "home"


def test_import_without_the_extra(medloop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DICOM without pydicom: one line with the command that installs it."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "1.dcm").write_bytes(bytes(128) + b"DICM")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    load_pydicom.cache_clear()

    code = medloop("data", "import", str(tmp_path / "src"), str(tmp_path / "out"), "--home", str(make_home(tmp_path)))

    load_pydicom.cache_clear()
    assert code == 2
    assert medloop.err == "error: DICOM: package pydicom is not installed; run pip install 'medloop[dicom]'\n"


def write_labelled_series(folder: Path) -> None:
    """A CT with a segmentation."""
    series, numbers = MadeSeries(), np.zeros((5, 7, 6), np.uint8)
    numbers[1:3, 2:5, 1:4] = 1
    series.write(folder)
    save(segmentation(series.datasets(), numbers, ["Liver"]), folder / "seg.dcm")


def test_import_prints_the_next_command(medloop: Any, tmp_path: Path) -> None:
    """Counts, labels, what was left out, and the check."""
    write_labelled_series(tmp_path / "src")
    (tmp_path / "src" / "notes.txt").write_text("x")
    command = ("data", "import", str(tmp_path / "src"), str(tmp_path / "out"), "--home", str(make_home(tmp_path)))

    assert medloop(*command) == 0
    assert "segmentation, 1 cases of 1 patients, 1 new" in medloop.out
    assert f"next: medloop data check {tmp_path / 'out'} --task segmentation --labels background,Liver" in medloop.out
    assert medloop.err == "left out: notes.txt: is no DICOM file\n"
    assert medloop(*command, "--json") == 0
    assert [case["is_new"] for case in medloop.json["cases"]] == [False]
    assert medloop(*command, "--query", "Modality=CT") == 2
    assert "--query Modality=CT: is for a DICOMweb server" in medloop.err


def test_an_import_without_a_case_fails(medloop: Any, tmp_path: Path) -> None:
    """With the first reason."""
    MadeSeries().write(tmp_path / "src")
    home = str(make_home(tmp_path))
    assert medloop("data", "import", str(tmp_path / "src"), str(tmp_path / "out"), "--home", home) == 2
    assert "no case was imported; has no segmentation (SEG or RTSTRUCT); --unlabelled" in medloop.err


def test_deidentify(medloop: Any, tmp_path: Path) -> None:
    """Copies under pseudonyms; a second time another folder is needed."""
    MadeSeries().write(tmp_path / "src")
    command = ("data", "deidentify", str(tmp_path / "src"), str(tmp_path / "out"), "--home", str(make_home(tmp_path)))
    assert medloop(*command, "--retain-dates") == 0
    assert medloop.out == f"{tmp_path / 'out'}: 5 files\n"
    assert medloop(*command) == 2
    assert "contains files; give a new folder" in medloop.err
