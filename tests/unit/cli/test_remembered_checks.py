"""Remembered checks: files that are unchanged aren't read again, and nothing else differs."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medloop.cloud.definition_cache import CACHE_VARIABLE
from medloop.commands.launch.remembered_checks import MAX_VERSIONS, open_remembered
from medloop.documents.split import Task
from medloop.imaging import checked_cases
from medloop.imaging.layouts import find_cases
from medloop.imaging.validation import DatasetReport, check_dataset
from tests.unit.imaging.datasets import write_classes, write_image, write_subjects

SETTLED = 0.06
"""Seconds after which a change gives a file another state."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "checks"


def check(root: Path, task: Task = "classification", labels: list[str] | None = None) -> DatasetReport:
    """Check with what earlier checks remembered."""
    time.sleep(SETTLED)
    return check_dataset(root, task, labels, memory=open_remembered(root, task, labels))


def unread(root: Path, task: Task = "classification", labels: list[str] | None = None) -> list[str]:
    """Paths of the cases that needn't be read."""
    memory = open_remembered(root, task, labels)
    cases = find_cases(root, task).cases
    return [case.path for case, known in zip(cases, memory.recall(cases) if memory else (), strict=True) if known]


def write_deep(root: Path) -> Path:
    """A data set with 16-bit, constant and coloured images."""
    import numpy as np
    from PIL import Image

    write_classes(root)
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 4096, (9, 9)).astype(np.uint16)).save(root / "cyst" / "deep.png")
    Image.fromarray(np.full((9, 9), 7, np.uint8)).save(root / "cyst" / "constant.png")
    Image.fromarray(random.integers(0, 256, (9, 9, 3)).astype(np.uint8)).save(root / "normal" / "colour.png")
    return root


@pytest.mark.parametrize(
    ("task", "write"),
    [("classification", write_classes), ("classification", write_deep), ("segmentation", write_subjects)],
)
def test_a_remembered_check_is_that_of_the_files(
    task: Task, write: Callable[[Path], Path], cache: Path, tmp_path: Path
) -> None:
    """The same report, without reading a file."""
    root = write(tmp_path / "data")
    first = check(root, task)
    assert unread(root, task) == [case.path for case in first.cases]
    assert check(root, task) == first == check_dataset(root, task)


def test_many_cases_are_recalled_window_by_window(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a window's contents are in memory together; each case keeps its own, read or remembered."""
    root = write_deep(tmp_path / "data")
    check(root)
    write_image(root / "cyst" / "new.png", 50)
    (root / "cyst" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    monkeypatch.setattr(checked_cases, "WINDOW", 3)
    assert check(root) == check_dataset(root, "classification")


def _edit(path: Path) -> None:
    status = path.stat()
    write_image(path, 77)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as `cp -p` and `rsync -t` do


def _replace(path: Path) -> None:
    new = write_image(path.with_name("new.png"), 78)
    shutil.copystat(path, new)
    new.replace(path)


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to(write_image(path.parents[2] / "elsewhere.png", 79))


@pytest.mark.parametrize("change", [_edit, _replace, _link])
def test_a_changed_file_is_read_again(change: Callable[[Path], None], cache: Path, tmp_path: Path) -> None:
    """Also if it keeps its size and time of modification."""
    root = write_classes(tmp_path / "data")
    check(root)
    change(root / "cyst" / "scan 3.png")
    assert sorted({*(case.path for case in find_cases(root, "classification").cases)} - {*unread(root)}) == [
        "cyst/scan 3.png"
    ]
    assert check(root) == check_dataset(root, "classification")


def test_new_damaged_and_moved_files_are_read(cache: Path, tmp_path: Path) -> None:
    """A damaged file is a problem each time; one of another name is another case."""
    root = write_classes(tmp_path / "data")
    (root / "cyst" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    check(root)
    write_image(root / "cyst" / "new.png", 50)
    (root / "cyst" / "scan 0.png").rename(root / "normal" / "moved.png")
    assert {"cyst/damaged.png", "cyst/new.png", "normal/moved.png"}.isdisjoint(unread(root))
    for _ in range(2):
        assert [problem.path for problem in check(root).problems] == ["cyst/damaged.png"]


def test_names_of_labels_are_checked_again(cache: Path, tmp_path: Path) -> None:
    """With fewer names than values a label can't be used."""
    root = write_subjects(tmp_path / "data")
    check(root, "segmentation", ["background", "gland"])
    assert unread(root, "segmentation", ["background"]) == unread(root, "segmentation") == []


def test_names_are_not_stored(cache: Path, tmp_path: Path) -> None:
    """Neither of folders nor of files, also where a file has a warning."""
    root = write_deep(tmp_path / "Doe Jane")
    check(root)
    content = b"".join(file.read_bytes() for file in cache.iterdir())
    assert b"one value everywhere" in content
    assert not [name for name in (b"Doe", b"scan", b"constant", b"cyst") if name in content]


@pytest.mark.parametrize("content", [b"", b"nonsense" * 1000])
def test_a_torn_file_is_no_obstacle(content: bytes, cache: Path, tmp_path: Path) -> None:
    """What can't be read is checked."""
    root = write_classes(tmp_path / "data")
    check(root)
    [file] = cache.glob("*.sqlite")
    file.write_bytes(content)
    assert check(root) == check_dataset(root, "classification")


def test_a_file_that_others_may_write_is_not_believed(cache: Path, tmp_path: Path) -> None:
    """Another user could say that a bad image is a good one."""
    root = write_classes(tmp_path / "data")
    check(root)
    [file] = cache.glob("*.sqlite")
    file.chmod(0o666)
    assert open_remembered(root, "classification", None) is None


def test_files_of_old_versions_are_deleted(cache: Path, tmp_path: Path) -> None:
    """The newest few stay: two checkouts may take turns."""
    cache.mkdir(parents=True)
    for number in range(MAX_VERSIONS + 3):
        (cache / f"{number}.sqlite").touch()
        os.utime(cache / f"{number}.sqlite", (number, number))
    check(write_classes(tmp_path / "data"))
    names = {file.stem for file in cache.glob("*.sqlite")}
    assert len(names) == MAX_VERSIONS
    assert str(MAX_VERSIONS + 2) in names


def test_without_a_cache_folder_all_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that can't be made costs only time."""
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "below"))
    assert len(check(write_classes(tmp_path / "data")).cases) == 10
