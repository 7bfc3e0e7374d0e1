"""`medloop data who`: from a pseudonym in an output back to the user's own file, where key and data are."""

from __future__ import annotations

import io
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from medloop.documents.split import SplitRecord, Task
from medloop.imaging.formats import read_image
from medloop.imaging.identity import pseudonym
from medloop.imaging.pictures import pixel_digest
from medloop.imaging.split_job import SplitOutputs, SplitSettings, split_dataset
from medloop.local.state.home import BUCKET, Home
from medloop.local.state.objects import reference
from tests.unit.imaging.datasets import write_classes, write_image, write_patients, write_subjects

KEY = b"k" * 32


@pytest.fixture
def home(medloop: Any) -> Path:
    """The command line's home, with a key, as upsert leaves it."""
    path: Path = medloop.home / "s3" / BUCKET / "keys" / "pseudonyms.key"
    path.parent.mkdir(parents=True)
    path.write_bytes(KEY)
    return Path(medloop.home)


def split(data: Path, output: Path, task: Task = "classification", layout: str = "copy") -> SplitRecord:
    """What the split job of a run writes."""
    outputs = SplitOutputs(*(output / name for name in ("train", "val", "test", "split")))
    settings = SplitSettings.model_validate({"task": task, "layout": layout, "data_uri": "s3://b/raw"})
    with redirect_stdout(io.StringIO()):
        return split_dataset(data, KEY, settings, outputs)


def files_in(home: Path) -> set[Path]:
    """Everything that a home contains."""
    return set(home.rglob("*"))


@pytest.mark.slow
def test_every_case_leads_back_to_its_file(medloop: Any, home: Path, tmp_path: Path) -> None:
    """Images of patients with several: the name in the outputs finds the one file with its pixels, and the patient."""
    data = write_classes(tmp_path / "data", 6)
    rows = [f"{name}/scan {i}.png,M\u00fcller {name} {i // 2}" for name in ("cyst", "normal") for i in range(6)]
    write_patients(data, rows)
    record = split(data, tmp_path / "out")
    reference(Home(home), data)
    before = files_in(home)
    for part in ("train", "val", "test"):
        for path, patient in record.patient_of(part).items():  # type: ignore[arg-type]
            assert medloop("data", "who", path, "--json") == 0
            assert medloop.json["pseudonym"] == patient
            [folder] = medloop.json["folders"]
            [case] = folder["cases"]
            assert case["name"] == Path(path).stem
            pixels = [read_image(file) for file in (data / case["path"], tmp_path / "out" / part / path)]
            assert pixel_digest(pixels[0]) == pixel_digest(pixels[1])
            assert f"{case['path']},{case['patient']}" in rows
    assert files_in(home) == before


def test_a_patient_has_all_cases(medloop: Any, home: Path, tmp_path: Path) -> None:
    """The pseudonym alone, as text: the patient, and a line for each file."""
    data = write_classes(tmp_path / "data", 6)
    write_patients(data, ["cyst/scan 1.png,Zoe\u0308", "normal/scan 2.png,Zo\u00eb", "cyst,a", "normal,b"])
    assert medloop("data", "who", pseudonym(KEY, "patient:Zo\u00eb"), "--data", str(data)) == 0
    forms = {f"'{form}'" for form in ("Zoe\u0308", "Zo\u00eb")}
    assert set(medloop.out.splitlines()[0].removeprefix(f"{data}: patient ").split(", ")) == forms
    assert [line.split("  ")[-1].rsplit("/", 2)[1] for line in medloop.out.splitlines()[2:]] in (
        ["cyst", "normal"],
        ["normal", "cyst"],
    )
    assert medloop("data", "who", pseudonym(KEY, "patient:Zoe\u0308"), "--data", str(data)) == 0, (
        "of an earlier version"
    )


@pytest.mark.parametrize("layout", ["copy", "manifest"])
def test_a_ready_made_split_without_patients(medloop: Any, home: Path, tmp_path: Path, layout: str) -> None:
    """An image that is in train and in test is one patient's: both files are listed."""
    data = tmp_path / "data"
    for number, part in enumerate(("train", "val", "test")):
        for group, name in enumerate(("cyst", "normal")):
            for index in range(4):
                write_image(data / part / name / f"{index}.png", 100 * number + 10 * group + index)
    shutil.copy(data / "train" / "cyst" / "0.png", data / "test" / "cyst" / "again.png")
    record = split(data, tmp_path / "out", layout=layout)
    [leaking] = [name for name, patient in record.patients.items() if len(patient.cases) == 2]
    assert medloop("data", "who", leaking, "--data", str(data), "--json") == 0
    [folder] = medloop.json["folders"]
    assert {case["path"] for case in folder["cases"]} == {"train/cyst/0.png", "test/cyst/again.png"}
    assert sorted(case["name"] for case in folder["cases"]) == [f"{leaking}_0000", f"{leaking}_0001"]


def test_volumes_and_names_in_logs(medloop: Any, home: Path, tmp_path: Path) -> None:
    """A subject's folder by its patient, and by the pseudonym that a log gives the folder's name."""
    data = write_subjects(tmp_path / "data", 4)
    record = split(data, tmp_path / "out", "segmentation")
    name = record.pseudonyms("test")[0]
    assert medloop("data", "who", name, "--data", str(data), "--json") == 0
    [case] = medloop.json["folders"][0]["cases"]
    assert case["name"] == name
    assert pseudonym(KEY, f"path:{case['path']}") == name
    in_log = pseudonym(KEY, "M\u00fcller 2")
    assert medloop("data", "who", f"{in_log}/img.nii.gz", "--data", str(data)) == 0
    assert str(data / "M\u00fcller 2") in medloop.out


def test_one_name_in_two_data_sets(medloop: Any, home: Path, tmp_path: Path) -> None:
    """Without identifiers a pseudonym is of a path: both files are shown, with a word on it."""
    for name in ("one", "two"):
        reference(Home(home), write_classes(tmp_path / name, 2))
    assert medloop("data", "who", pseudonym(KEY, "path:cyst/scan 0.png")) == 0
    assert all(str(tmp_path / name / "cyst" / "scan 0.png") in medloop.out for name in ("one", "two"))
    assert "choose the run's data set with --data DIR" in medloop.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["scan 0"], "scan 0: is no pseudonym"),
        (["p0123456789ab"], "no run of this home used a data set on this machine; give --data DIR"),
        (["p0123456789ab", "--data", "nowhere"], "nowhere: is no folder"),
    ],
)
def test_what_cannot_be_looked_up(medloop: Any, home: Path, arguments: list[str], expected: str) -> None:
    """One line that names the fix, exit code 2."""
    assert medloop("data", "who", *arguments) == 2
    assert expected in medloop.err
    assert medloop.err.count("\n") == 1


def test_another_key_finds_nothing(medloop: Any, home: Path, tmp_path: Path) -> None:
    """A stranger's pseudonym, and a home without a key: refused, and no home is made."""
    data = write_classes(tmp_path / "data", 2)
    assert medloop("data", "who", pseudonym(b"x" * 32, "path:cyst/scan 0.png"), "--data", str(data)) == 2
    assert f"names nothing in {data} with the key of {home}" in medloop.err
    assert medloop("data", "who", "p0123456789ab", "--data", str(data), "--home", str(tmp_path / "other")) == 2
    assert "has no key of pseudonyms" in medloop.err
    assert not (tmp_path / "other").exists()
