"""The split container, as a job runs it: folders in, folders out, exit code and message."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest

from medloop.documents.file_names import SPLIT_FILE
from medloop.documents.split import SplitRecord
from medloop.imaging.formats import read_image
from medloop.imaging.identity import pseudonym
from medloop.imaging.nifti import read_nifti
from tests.unit.imaging.datasets import write_classes, write_image, write_patients, write_subject, write_subjects

ROOT = Path(__file__).parents[2]
MAIN = ROOT / "containers" / "split" / "main.py"
KEY = b"k" * 32
CLASSES = ("cyst", "normal")


class Ended(NamedTuple):
    """How a job ended."""

    returncode: int
    stdout: str
    stderr: str


class Job:
    """A processing job's root; `run` runs main.py in it, in this process: twenty interpreters take their time."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = folder / "ml"
        self.data = self.input("data")
        (self.input("key") / "pseudonyms.key").write_bytes(KEY)
        (self.root / "output").mkdir()
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def input(self, name: str) -> Path:
        """An input's folder, made."""
        path = self.root / "processing" / "input" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def output(self, name: str) -> Path:
        """An output's folder."""
        return self.root / "processing" / "output" / name

    def run(self, *arguments: str) -> Ended:
        """Run the job to its end."""
        self._monkeypatch.setenv("ML_ROOT", str(self.root))
        self._monkeypatch.setattr(sys, "argv", [str(MAIN), *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(MAIN), run_name="__main__")
        code = ended.value.code
        assert isinstance(code, int)
        return Ended(code, *self._capsys.readouterr())

    @property
    def message(self) -> str:
        """What the service shows as ExitMessage."""
        return (self.root / "output" / "message").read_text(encoding="utf-8")

    @property
    def record(self) -> SplitRecord:
        """split.json."""
        return SplitRecord.read(self.output("split"))

    def written(self) -> list[str]:
        """All files in the outputs."""
        root = self.root / "processing" / "output"
        return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())

    def everything_said(self, done: Ended) -> str:
        """Log, message, file names and records: all that others see."""
        record = self.output("split") / SPLIT_FILE
        text = record.read_text(encoding="utf-8") if record.exists() else ""
        return done.stdout + done.stderr + self.message + "\n".join(self.written()) + text


@pytest.fixture
def new_job(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[Path], Job]:
    """Makes a job without data in a folder."""
    return lambda folder: Job(folder, monkeypatch, capsys)


@pytest.fixture
def job(tmp_path: Path, new_job: Callable[[Path], Job]) -> Job:
    """A job without data."""
    return new_job(tmp_path)


def test_images_are_split_by_patient_and_pseudonymised(job: Job) -> None:
    """Twenty patients with two images each: 14/4/2, pixels kept, one patient in one split, no name anywhere."""
    rows = []
    for index in range(40):
        name = ("Zyste ü", "normal")[index % 2]
        write_image(job.data / name / f"Hans Müller {index} x.jpg", index)
        rows.append(f"{name}/Hans Müller {index} x.jpg,Müller-{index % 20},{'fm'[index % 20 % 2]}")
    write_patients(job.data, rows, "path,patient,sex")
    done = job.run("--task", "classification", "--data-version", "abc", "--seed", "3")

    assert (done.returncode, done.stderr) == (0, "")
    record = job.record
    assert {split: count.num_patients for split, count in record.counts.items()} == {"train": 14, "val": 4, "test": 2}
    assert job.message.startswith("train 14 patients 28 cases; val 4 patients 8 cases; test 2 patients 4 cases; leak")
    assert (record.leakage.status, record.leakage.num_patients) == ("none", 0)
    assert record.patients[pseudonym(KEY, "patient:Müller-7")].attributes == {"sex": "m"}
    assert "Müller" not in job.everything_said(done)
    for split in ("train", "val", "test"):
        files = {path.relative_to(job.output(split)).as_posix() for path in job.output(split).rglob("*.png")}
        assert files == set(record.patient_of(split))
        assert {Path(name).name[:13] for name in files} == set(record.pseudonyms(split))
    sources = {read_image(path).tobytes() for path in job.data.rglob("*.jpg")}
    copies = {read_image(path).tobytes() for path in (job.root / "processing" / "output").rglob("*.png")}
    assert copies == sources


def test_volumes_keep_voxels_and_geometry(job: Job) -> None:
    """Copies of volumes: the same voxels and affine, no free text; without patients.csv leakage is unknown, not 0."""
    write_subjects(job.data, 5)
    path = job.data / "Müller 3" / "img.nii.gz"
    image = nib.load(path)
    image.header["descrip"] = b"Hans Mueller"
    nib.save(image, path)
    done = job.run("--task", "segmentation", "--labels", '["background", "gland"]')

    assert done.returncode == 0
    record = job.record
    name = pseudonym(KEY, "path:Müller 3")
    split = record.patients[name].cases[0].split
    copy = job.output(split) / name / "img.nii.gz"
    np.testing.assert_array_equal(read_nifti(copy).voxels, read_nifti(path).voxels)
    np.testing.assert_array_equal(read_nifti(copy).affine, read_nifti(path).affine)
    assert nib.load(copy).header["descrip"].tobytes().strip(b"\0") == b""
    assert (record.leakage.status, record.leakage.num_patients) == ("unknown", None)
    assert "leakage: unknown: no patient identifiers" in job.message
    assert record.classes == ["background", "gland"]
    assert "ller" not in job.everything_said(done)


def _bytes(job: Job) -> dict[str, bytes]:
    return {name: (job.root / "processing" / "output" / name).read_bytes() for name in job.written()}


def test_two_runs_give_the_same_bytes(tmp_path: Path, new_job: Callable[[Path], Job]) -> None:
    """The same data, key and seed: every output file is the same; another key: the same images in the same splits."""
    jobs = [new_job(tmp_path / name) for name in "abc"]
    (jobs[2].input("key") / "pseudonyms.key").write_bytes(b"other" * 8)
    for job in jobs:
        write_subjects(job.data, 4)
        assert job.run("--task", "segmentation").returncode == 0

    assert _bytes(jobs[0]) == _bytes(jobs[1])
    assert jobs[0].written() != jobs[2].written()
    assert jobs[0].record.data_digest == jobs[2].record.data_digest
    for split in ("train", "val", "test"):
        contents = [sorted(p.read_bytes() for p in job.output(split).rglob("img.nii.gz")) for job in (jobs[0], jobs[2])]
        assert contents[0] == contents[1]


def test_bad_files_fail_the_job_and_leave_nothing(job: Job) -> None:
    """Every bad file is listed by pseudonym, with its reason and the command that shows names; nothing is written."""
    write_subjects(job.data, 5)
    (job.data / "Müller 1" / "img.nii.gz").write_bytes(b"text")
    (job.data / "Müller 2" / "label.nii.gz").unlink()
    done = job.run("--task", "segmentation")

    assert done.returncode == 2
    names = [pseudonym(KEY, f"Müller {index}") for index in (1, 2)]
    assert f"{names[0]}/img.nii.gz: is truncated" in job.message or f"{names[0]}/img.nii.gz: is no NIfTI" in job.message
    assert f"{names[1]}/label.nii.gz: is missing" in job.message
    assert "medloop data check" in job.message
    assert "\n" not in job.message.strip()
    assert "Müller" not in job.everything_said(done)
    assert job.written() == []


def test_quarantine_leaves_bad_files_out(job: Job) -> None:
    """on_invalid=quarantine: the rest is split, and split.json says what is missing and why, by pseudonym."""
    write_classes(job.data)
    (job.data / "cyst" / "scan 0.png").write_text("text")
    (job.data / "cyst" / "Müller.dcm").write_text("text")
    done = job.run("--task", "classification", "--on-invalid", "quarantine")

    assert done.returncode == 0
    left_out = {entry.path: entry.reason for entry in job.record.quarantined}
    assert left_out.keys() == {f"cyst/{pseudonym(KEY, 'scan 0.png')}.png", f"cyst/{pseudonym(KEY, 'Müller.dcm')}.dcm"}
    assert "is no PNG or JPEG" in left_out[f"cyst/{pseudonym(KEY, 'scan 0.png')}.png"]
    assert "2 left out" in job.message
    assert sum(count.num_cases for count in job.record.counts.values()) == 9


def test_a_case_with_two_faults_is_left_out_once(job: Job) -> None:
    """Without a row in patients.csv and without a label: one case less, with both reasons."""
    write_subjects(job.data, 5)
    write_patients(job.data, [f"Müller {index},{index}" for index in range(4)])
    (job.data / "Müller 4" / "label.nii.gz").unlink()
    assert job.run("--task", "segmentation", "--on-invalid", "quarantine").returncode == 0

    [left_out] = job.record.quarantined
    assert "has no row in patients.csv" in left_out.reason
    assert "is missing" in left_out.reason
    assert "1 left out" in job.message


def test_quarantine_cannot_fix_the_data_set(job: Job) -> None:
    """A problem that leaving cases out doesn't fix fails the job."""
    write_classes(job.data, classes=("cyst",))

    assert job.run("--task", "classification", "--on-invalid", "quarantine").returncode == 2
    assert "data set: has one class only" in job.message
    assert job.written() == []


def test_previous_keeps_places(job: Job, tmp_path: Path, new_job: Callable[[Path], Job]) -> None:
    """With the last split.json, known patients stay where they were, new ones come in."""
    write_classes(job.data, 10)
    assert job.run("--task", "classification").returncode == 0
    before = {split: set(job.record.pseudonyms(split)) for split in ("train", "val", "test")}

    again = new_job(tmp_path / "again")
    (again.input("previous") / SPLIT_FILE).write_text((job.output("split") / SPLIT_FILE).read_text())
    write_classes(again.data, 15)
    assert again.run("--task", "classification", "--seed", "9").returncode == 0
    assert all(before[split] <= set(again.record.pseudonyms(split)) for split in before)
    assert {split: count.num_patients for split, count in again.record.counts.items()} == {
        "train": 21, "val": 6, "test": 3,
    }  # fmt: skip


def test_previous_of_an_earlier_version_knows_identifiers_in_another_form(
    job: Job, tmp_path: Path, new_job: Callable[[Path], Job]
) -> None:
    """Version 1 hashed the text as it is written: a patient in decomposed letters keeps the split all the same."""
    write_classes(job.data, 10)
    identifiers = {f"{name}/scan {index}.png": f"Zoe\u0308 {name}{index}" for name in CLASSES for index in range(10)}
    write_patients(job.data, [f"{path},{patient}" for path, patient in identifiers.items()])
    assert job.run("--task", "classification").returncode == 0
    document = json.loads((job.output("split") / SPLIT_FILE).read_text())
    document["patients"] = {patient.pop("earlier")[0]: patient for patient in document["patients"].values()}
    for name in ("warnings", "test_digest"):
        del document[name]

    again = new_job(tmp_path / "again")
    (again.input("previous") / SPLIT_FILE).write_text(json.dumps(document | {"version": 1}))
    write_classes(again.data, 10)
    write_patients(again.data, [f"{path},{patient}" for path, patient in identifiers.items()])
    assert "warning: previous" not in again.run("--task", "classification", "--seed", "9").stdout
    assert again.record.pseudonyms("test") == job.record.pseudonyms("test")


def test_a_patient_known_under_two_pseudonyms_stays_in_train(
    job: Job, tmp_path: Path, new_job: Callable[[Path], Job]
) -> None:
    """An earlier version took two forms of one identifier for two patients, one in train and one in test."""
    write_classes(job.data, 6)
    paths = [f"{name}/scan {index}.png" for name in CLASSES for index in range(6)]
    write_patients(job.data, [f"{path},{path}" for path in paths])
    assert job.run("--task", "classification").returncode == 0
    document = json.loads((job.output("split") / SPLIT_FILE).read_text())
    forms = [pseudonym(KEY, f"patient:{form}") for form in ("Zoe\u0308", "Zo\u00eb")]
    tested, trained = job.record.pseudonyms("test")[0], job.record.pseudonyms("train")[0]
    document["patients"][forms[0]] = document["patients"].pop(trained)
    document["patients"][forms[1]] = document["patients"].pop(tested)

    again = new_job(tmp_path / "again")
    (again.input("previous") / SPLIT_FILE).write_text(json.dumps(document))
    write_classes(again.data, 6)
    rows = [f"{path},{path}" for path in paths[2:]]
    write_patients(again.data, [f"{paths[0]},Zoe\u0308", f"{paths[1]},Zo\u00eb", *rows])
    assert again.run("--task", "classification").returncode == 0
    assert forms[1] in again.record.pseudonyms("train")


def test_the_test_set_is_named_by_its_content(job: Job, tmp_path: Path, new_job: Callable[[Path], Job]) -> None:
    """Other files and other patients of the same images: one digest; other images under the same names: another."""

    def digest(name: str, first_seed: int, *, renamed: bool = False) -> str:
        made = new_job(tmp_path / name)
        for number, split in enumerate(("train", "val", "test")):
            for group, kind in enumerate(("b", "a") if renamed else ("a", "b")):
                for index in range(3):
                    file = f"{'x' if renamed else ''}{index}.png"
                    write_image(made.data / split / kind / file, first_seed + 100 * number + 10 * group + index)
        assert made.run("--task", "classification").returncode == 0
        return made.record.test_digest

    assert digest("one", 0) == digest("renamed and relabelled", 0, renamed=True)
    assert digest("one again", 0) != digest("other images", 5000)


def test_previous_of_other_pseudonyms_is_said_loudly(job: Job, tmp_path: Path, new_job: Callable[[Path], Job]) -> None:
    """With another key no patient is recognised, and a training patient may become a test patient: the log warns."""
    write_classes(job.data, 10)
    assert job.run("--task", "classification").returncode == 0
    again = new_job(tmp_path / "again")
    (again.input("previous") / SPLIT_FILE).write_text((job.output("split") / SPLIT_FILE).read_text())
    (again.input("key") / "pseudonyms.key").write_bytes(b"l" * 32)
    write_classes(again.data, 10)

    assert "warning: previous: knows none of these patients" in again.run("--task", "classification").stdout


def test_previous_of_the_other_task_is_refused(job: Job, tmp_path: Path, new_job: Callable[[Path], Job]) -> None:
    """The split.json of another task says nothing about these patients."""
    write_classes(job.data, 10)
    assert job.run("--task", "classification").returncode == 0
    again = new_job(tmp_path / "again")
    (again.input("previous") / SPLIT_FILE).write_text((job.output("split") / SPLIT_FILE).read_text())
    write_subjects(again.data)

    assert again.run("--task", "segmentation").returncode == 2
    assert "previous: its task is classification, not segmentation" in again.message


def test_presplit_leakage_is_said_loudly(job: Job) -> None:
    """One patient in train and test: taken as it is, and found, in the record, the log and the last word."""
    rows = []
    for index, split in enumerate(("train", "train", "valid", "test", "test")):
        for group, name in enumerate(("cyst", "normal")):
            write_image(job.data / split / name / f"{index}.png", 10 * index + group)
            rows.append(f"{split}/{name}/{index}.png,{'abcad'[index]}")
    write_patients(job.data, rows)
    done = job.run("--task", "classification")

    assert done.returncode == 0
    assert job.record.presplit
    assert (job.record.leakage.status, job.record.leakage.num_patients) == ("found", 1)
    assert (
        "leakage FOUND: 1 patient is in more than one split; 2 test cases are excluded from every score" in done.stdout
    )
    assert "FOUND" in job.message


def test_presplit_without_val_takes_it_out_of_train(job: Job) -> None:
    """Ready train and test folders: the test folder stays, val comes out of train."""
    write_classes(job.data / "train", 9)
    write_image(job.data / "test" / "cyst" / "a.png", 5000)
    write_image(job.data / "test" / "normal" / "b.png", 5001)

    assert job.run("--task", "classification").returncode == 0
    assert {split: count.num_cases for split, count in job.record.counts.items()} == {"train": 14, "val": 4, "test": 2}


def test_each_split_has_foreground(job: Job) -> None:
    """Most subjects have no lesion: train, val and test have one that has, and the sizes are the quotas'."""
    for index in range(15):
        write_subject(job.data / f"Müller {index}", index, (0, 1) if index < 5 else (0,))

    assert job.run("--task", "segmentation", "--labels", '["background", "lesion"]').returncode == 0
    counts = job.record.counts
    assert {split: count.num_cases for split, count in counts.items()} == {"train": 11, "val": 3, "test": 1}
    assert all(count.classes["lesion"] > 0 for count in counts.values())


def test_what_training_would_refuse_fails_the_split(job: Job) -> None:
    """One subject with a lesion: refused with the numbers, before a training instance starts; nothing is written."""
    for index in range(8):
        write_subject(job.data / f"Müller {index}", index, (0, 1) if index == 3 else (0,))
    done = job.run("--task", "segmentation", "--labels", '["background", "lesion"]')

    assert done.returncode == 2
    assert "val has no foreground (train 1, val 0, test 0; 8 patients in all)" in job.message
    assert job.written() == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--task", "detection"], "argument --task='detection'"),
        ([], "argument --task is missing"),
        (["--task", "segmentation", "--labels", '["a", "b", "b "]'], "label values 1 and 2 have the same name"),
        (["--task", "segmentation", "--labels", '["a", " "]'], "label value 1 has an empty name"),
        (["--task", "segmentation", "--sed", "3"], "argument --sed is unknown"),
        (["--task", "segmentation", "--seed", "three"], "argument --seed='three'"),
        (["--task", "segmentation", "--train", "0.9"], "train, val and test must sum to 1, not 1.2"),
    ],
)
def test_wrong_arguments(job: Job, arguments: list[str], reason: str) -> None:
    """An unknown, missing or ill-typed argument is named; exit code 2."""
    assert job.run(*arguments).returncode == 2
    assert reason in job.message


@pytest.mark.slow
def test_by_hand(tmp_path: Path) -> None:
    """Folders as arguments, no key: it works, and warns that the pseudonyms are of this run alone."""
    write_subjects(tmp_path / "data", 3)
    write_subject(tmp_path / "data" / "another", 60)
    outputs = [
        text for name in ("train", "val", "test", "split") for text in (f"--output-{name}", tmp_path / "o" / name)
    ]
    command: list[Any] = [sys.executable, MAIN, "--task", "segmentation"]
    command += ["--input-data", tmp_path / "data", *outputs]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ML_ROOT": str(tmp_path / "none")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    assert done.returncode == 0
    assert "random key" in done.stdout
    assert len(json.loads((tmp_path / "o" / "split" / SPLIT_FILE).read_text())["patients"]) == 4

    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert "output train: folder is not empty" in done.stderr


@pytest.mark.slow
def test_output_below_a_file(tmp_path: Path) -> None:
    """An output path below a regular file is refused in one line."""
    write_subjects(tmp_path / "data", 3)
    (tmp_path / "file").touch()
    command: list[Any] = [sys.executable, MAIN, "--task", "segmentation"]
    command += ["--input-data", tmp_path / "data", "--output-train", tmp_path / "file" / "train"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ML_ROOT": str(tmp_path / "none")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    assert done.returncode == 2
    assert done.stderr == "error: output train: can't be written (Not a directory); set another folder\n"
