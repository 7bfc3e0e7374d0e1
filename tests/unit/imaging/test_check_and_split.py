"""`data check` and the split job agree on every data set: both accept it, or both refuse it with the same lines."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from medloop.commands.launch.checking import check
from medloop.commands.options import Services
from medloop.documents.split import SPLITS, Task
from medloop.documents.split_rule import SplitRule
from medloop.errors import DataError
from medloop.imaging.identity import path_renamer
from medloop.imaging.layouts import SAFE_NAMES
from medloop.imaging.split_job import SplitOutputs, SplitSettings, split_dataset
from tests.unit.imaging.datasets import write_image, write_patients, write_subject

KEY = b"k" * 32
SERVICES = Services(out=Console(file=io.StringIO()), err=Console(file=io.StringIO()))
TOPS = st.sampled_from(["", "", "", "train", "Training", "val", "Validation", "test", "Testing", "data", "__MACOSX"])
KINDS = st.sampled_from(["cyst", "normal", "other", "images", "masks"])
CASES = st.lists(st.tuples(TOPS, KINDS, st.sampled_from(["anna", "bert", "carl", "dora", "emil"])), max_size=14)
SUBJECTS = st.lists(st.tuples(TOPS, st.sampled_from([(0,), (0, 1), (0, 1, 2), (0, 2)])), max_size=9)


def checked(root: Path, task: Task, labels: list[str] | None) -> list[str]:
    """Lines with which `data check` refuses a data set, with names as the job hides them."""
    try:
        report = check(SERVICES, root, task, labels, SplitRule())
    except DataError as error:
        return [str(error)]
    classes = {name for name, count in report.counts.items() if count > 1} if task == "classification" else set()
    return [problem.hide(path_renamer(KEY, SAFE_NAMES | classes)) for problem in report.problems]


def split(root: Path, out: Path, task: Task, labels: list[str] | None, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Lines with which the split job refuses it."""
    outputs = SplitOutputs(*(out / name for name in (*SPLITS, "split")))
    capsys.readouterr()
    try:
        split_dataset(root, KEY, SplitSettings(task=task, labels=labels), outputs)
    except DataError as error:
        said = [line.removeprefix("problem: ") for line in capsys.readouterr().out.splitlines() if "problem: " in line]
        return said or [str(error)]
    return []


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cases=CASES, named=st.booleans())
def test_images(
    cases: list[tuple[str, str, str]],
    named: bool,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Any number of classes, splits and patients, some of them in folders of other layouts."""
    root, out = (tmp_path_factory.mktemp(name) for name in ("data", "out"))
    paths = [f"{top}/{kind}/{number}.png".strip("/") for number, (top, kind, _) in enumerate(cases)]
    for number, path in enumerate(paths):
        write_image(root / path, number)
    if named:
        write_patients(root, [f"{path},{case[2]}" for path, case in zip(paths, cases, strict=True)])
    assert checked(root, "classification", None) == split(root, out, "classification", None, capsys)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(subjects=SUBJECTS, labels=st.sampled_from([None, ["none", "a"], ["none", "a", "b"]]))
def test_volumes(
    subjects: list[tuple[str, tuple[int, ...]]],
    labels: list[str] | None,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Structures that some, none or all splits have, values without a name, names without a value."""
    root, out = (tmp_path_factory.mktemp(name) for name in ("data", "out"))
    for number, (top, values) in enumerate(subjects):
        write_subject(root / top / f"s{number}", number, values)
    assert checked(root, "segmentation", labels) == split(root, out, "segmentation", labels, capsys)
