"""Leakage is one fact: the check, the split, the evaluation, the page and the registry report the same sentence."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from medloop.documents.leakage import Leakage, find_leakage
from medloop.documents.metadata import decode
from medloop.documents.model import TrainedOn
from medloop.documents.split import SplitRecord
from medloop.evaluation.cases import leave_out_seen, list_cases
from medloop.evaluation.evaluate import EvaluateArguments, evaluate, exit_message
from medloop.imaging.manifest import channel_folder
from medloop.imaging.split_job import SplitOutputs, SplitSettings, split_dataset, summary
from medloop.imaging.validation import check_dataset
from tests.unit.evaluation.worlds import FakeImageModel, model_record
from tests.unit.imaging.datasets import write_classes, write_image, write_patients

CLASSES = ("cyst", "normal")


def presplit(data: Path) -> None:
    """Six images of each class in train, four in val and in test."""
    for number, (split, num) in enumerate({"train": 6, "val": 4, "test": 4}.items()):
        for group, name in enumerate(CLASSES):
            for index in range(num):
                write_image(data / split / name / f"{split}{index}.png", 100 * number + 10 * group + index)


def duplicate(data: Path) -> None:
    """An image of train again in test, as another file."""
    presplit(data)
    shutil.copy(data / "train" / "cyst" / "train0.png", data / "test" / "cyst" / "again.png")


def patient_twice(data: Path) -> None:
    """A patient with other images in train and in test, the identifier written in two forms."""
    presplit(data)
    paths = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.png"))
    who = {
        "train/cyst/train0.png": "Zoe\u0308",
        "test/cyst/test0.png": "Zo\u00eb",
        "test/normal/test1.png": " Zo\u00eb\u200b",
    }
    write_patients(data, [f"{path},{who.get(path, path)}" for path in paths])


def unnamed(data: Path) -> None:
    """Whole folders to be split, without patients.csv, one image twice."""
    write_classes(data, 12)
    shutil.copy(data / "cyst" / "scan 0.png", data / "cyst" / "again.png")


def named(data: Path) -> None:
    """The same with patients.csv: two images a patient."""
    write_classes(data, 20)
    rows = [f"{name}/scan {index}.png,{name}{index // 2}" for name in CLASSES for index in range(20)]
    write_patients(data, rows)


def doubtful(data: Path) -> None:
    """With patients.csv, in which a spreadsheet wrote half of the identifiers."""
    write_classes(data, 20)
    rows = [f"{name}/scan {i}.png,{i // 2 + 1:0{1 + 2 * (i % 2)}d}" for name in CLASSES for i in range(20)]
    write_patients(data, rows)


FOUND_IMAGE = (
    "FOUND: 1 image is in more than one split; 1 test case is excluded from every score; "
    "without patient identifiers, more may leak"
)
FOUND_PATIENT = "FOUND: 1 patient is in more than one split; 2 test cases are excluded from every score"
UNKNOWN = "unknown: no patient identifiers, so a patient may be in more than one split"
NONE = "none: every patient is in one split"
DOUBTFUL = f"{NONE}, if the doubtful identifiers in patients.csv are right (see its warnings)"


class Chain(NamedTuple):
    """Where leakage was reported."""

    checked: Leakage
    split: SplitRecord
    output: Path
    message: str


def run_chain(root: Path, layout: str) -> Chain:
    """Check, split and evaluate ROOT/data, with a model that was trained on the split's train and val patients."""
    data = root / "data"
    checked = check_dataset(data, "classification").leakage
    outputs = SplitOutputs(root / "train", root / "val", root / "test", root / "split")
    rule = SplitSettings.model_validate({"task": "classification", "layout": layout, "data_uri": "s3://b/raw"})
    split = split_dataset(data, b"k" * 32, rule, outputs)
    model = model_record("classification", CLASSES).model_copy(
        update={"patients": TrainedOn(train=split.pseudonyms("train"), val=split.pseudonyms("val"))}
    )
    names = [Path(path).name for path in split.patient_of("test")]
    # As a job's channel: the raw files under their own names.
    test = data if layout == "manifest" else outputs.test
    predictor = FakeImageModel(model, dict.fromkeys(names, (0.4, 0.6)))
    arguments = EvaluateArguments(task="classification")
    record = evaluate(root, test, outputs.split, root / "evaluation", arguments, load=lambda folder, task: predictor)
    return Chain(checked, split, root / "evaluation", exit_message(record))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["copy", "manifest"])
@pytest.mark.parametrize(
    ("make", "expected"),
    [(duplicate, FOUND_IMAGE), (patient_twice, FOUND_PATIENT), (unnamed, UNKNOWN), (named, NONE), (doubtful, DOUBTFUL)],
)
def test_everyone_reports_the_same(tmp_path: Path, make: Callable[[Path], None], expected: str, layout: str) -> None:
    """One sentence in the check, split.json, the exit messages, evaluation.json, the registry's text and the page."""
    make(tmp_path / "data")
    chain = run_chain(tmp_path, layout)

    assert chain.checked.note == expected
    assert chain.split.leakage == chain.checked
    assert summary(chain.split).endswith(f"leakage: {expected}")
    assert chain.message.endswith(f"leakage: {expected}")
    evaluation = json.loads((chain.output / "evaluation.json").read_text())
    assert evaluation["data"]["leakage"] == chain.checked.model_dump()
    assert decode(json.loads((chain.output / "registration.json").read_text())["leakage"]) == expected
    page = html.unescape((chain.output / "report.html").read_text())
    assert f"{expected[0].upper()}{expected[1:]}." in page


@pytest.mark.slow
def test_doubts_of_identifiers_reach_the_approver(tmp_path: Path) -> None:
    """The notes of the evaluation, which the page and the last lines of a run show, name the rows."""
    doubtful(tmp_path / "data")
    notes = json.loads((run_chain(tmp_path, "copy").output / "evaluation.json").read_text())["notes"]
    assert any(note.startswith("patients.csv: rows 2 and 3, rows 4 and 5") for note in notes)


@pytest.mark.slow
def test_excluded_cases_are_those_that_the_sentence_counts(tmp_path: Path) -> None:
    """Both test images of the patient in two splits are left out of the score, and no other."""
    patient_twice(tmp_path / "data")
    chain = run_chain(tmp_path, "copy")
    evaluation = json.loads((chain.output / "evaluation.json").read_text())
    assert (evaluation["data"]["num_cases"], chain.split.counts["test"].num_cases) == (6, 8)


def test_patients_in_train_and_val_are_found(tmp_path: Path) -> None:
    """No test case is left out, and the leak is reported all the same."""
    leakage = find_leakage([("a", "train"), ("a", "val"), ("b", "test")], identified=True)
    assert leakage.note == "FOUND: 1 patient is in more than one split; none is in test"
    assert (leakage.status, leakage.num_patients, leakage.num_cases) == ("found", 1, 0)


@pytest.mark.slow
def test_patients_of_earlier_training_are_found(tmp_path: Path) -> None:
    """Weights that have seen a test patient: the split can't know, the evaluation reports and excludes it."""
    named(tmp_path / "data")
    chain = run_chain(tmp_path, "copy")
    stranger = chain.split.pseudonyms("test")[0]
    model = model_record("classification", CLASSES, train=[stranger])
    cases = list_cases(channel_folder(tmp_path / "test", tmp_path / "split", "test"), chain.split, CLASSES)
    unseen, leakage = leave_out_seen(cases, chain.split, model)
    assert chain.split.leakage.status == "none"
    assert leakage.note.startswith("FOUND: 1 patient is in test and in the model's training data; 2 test cases")
    assert stranger not in {case.patient for case in unseen}
