"""Layouts of data sets in folders, and their cases. Nothing is decoded here. Torch-free.

Classification: `<class>/<image>`. Segmentation: `<subject>/img` and `label`, each with the suffix of its format
(`medloop.imaging.formats`). Either may be stored below `train`, `val` (or `valid`) and `test`, and is then split
already. `patients.csv` in the root names the patients. Hidden files are not seen. Links are followed, at these depths
only; nothing is ever written through them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from medloop.documents.split import Split, Task
from medloop.errors import DataError
from medloop.imaging.formats import IMAGE_SUFFIXES, VOLUME_SUFFIXES, find_suffix, usual_suffixes
from medloop.imaging.patients import PATIENTS_FILE, PatientTable, read_patients
from medloop.imaging.problems import Problem

SPLIT_FOLDERS: dict[str, Split] = {"train": "train", "val": "val", "valid": "val", "test": "test"}
IMAGE, LABEL = "img", "label"
SAFE_NAMES = frozenset(
    [*SPLIT_FOLDERS, PATIENTS_FILE, *(stem + suffix for stem in (IMAGE, LABEL) for suffix in VOLUME_SUFFIXES)]
)
"""Parts of paths that never name a patient."""
_IGNORED = ("thumbs.db", "desktop.ini")
_DOCUMENTS = (".md", ".txt", ".csv", ".json", ".pdf", ".html", ".yaml", ".yml")
LAYOUTS: dict[Task, str] = {
    "classification": f"<class>/<image>{usual_suffixes('classification')}",
    "segmentation": " and ".join(f"<subject>/{stem}{usual_suffixes('segmentation')}" for stem in (IMAGE, LABEL)),
}


@dataclass(frozen=True)
class RawCase:
    """One image file, or one subject's folder.

    Attributes:
        path: Relative to the root, POSIX; the image's, or the subject folder's.
        group: The class folder's name (classification), or "" (segmentation).
        split: The split whose folder contains it, or None.
        patient: From patients.csv, in its normal form, or None.
        written: The patient as patients.csv has it.
        attributes: The patient's further columns.
    """

    path: str
    group: str
    split: Split | None
    patient: str | None = None
    written: str = ""
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass
class Layout:
    """The cases of a data set's folders, and the problems of its layout."""

    task: Task
    presplit: bool
    cases: list[RawCase]
    problems: list[Problem]
    identified: bool
    """True if patients.csv is there."""
    warnings: list[Problem] = field(default_factory=list)
    """What the data set's owner should know, and what doesn't keep the data from being used."""


def find_cases(root: Path, task: Task) -> Layout:
    """List the cases of a data set, sorted by path.

    Raises:
        DataError: The root is no folder or can't be listed.
    """
    if not root.is_dir():
        raise DataError(f"{root}: is no folder; give the data set's folder")
    layout = Layout(task, False, [], [], False)
    presplit = _is_presplit(root, layout)
    tops = [folder for folder in _folders(root) if folder.name in SPLIT_FOLDERS] if presplit else [root]
    layout.presplit = presplit
    for top in tops:
        prefix = f"{top.name}/" if presplit else ""
        split = SPLIT_FOLDERS[top.name] if presplit else None
        finder = _classified if task == "classification" else _segmented
        layout.cases += finder(top, prefix, split, layout.problems)
    _name_patients(root, layout)
    return layout


def _is_presplit(root: Path, layout: Layout) -> bool:
    names = [folder.name for folder in _folders(root)]
    splits = [name for name in names if name in SPLIT_FOLDERS]
    if "train" not in splits:
        return False
    for name in names:
        if name not in SPLIT_FOLDERS:
            layout.problems.append(Problem(name, "is next to the folder train; move it into train, val or test", name))
    if {"val", "valid"} <= set(splits):
        layout.problems.append(Problem("valid", "folders val and valid are both there; keep one"))
    return True


def _classified(top: Path, prefix: str, split: Split | None, problems: list[Problem]) -> Iterator[RawCase]:
    for path in _files(top):
        if find_suffix(path.name, IMAGE_SUFFIXES):
            problems.append(_stray(prefix + path.name, "is outside a class folder; move it into one"))
    for folder in _folders(top):
        empty = True
        for path in _entries(folder):
            name = f"{prefix}{folder.name}/{path.name}"
            empty = False
            if path.is_dir():
                problems.append(_stray(name, "is a folder inside a class folder; move its images up one level"))
            elif find_suffix(path.name, IMAGE_SUFFIXES):
                yield RawCase(name, folder.name, split)
            elif path.name.lower() not in _IGNORED and path.suffix.lower() not in _DOCUMENTS:
                problems.append(_stray(name, f"is no {usual_suffixes('classification')} file; convert or remove it"))
        if empty and not split:
            problems.append(_stray(prefix + folder.name, "class folder is empty; add images or remove it"))


def _segmented(top: Path, prefix: str, split: Split | None, problems: list[Problem]) -> Iterator[RawCase]:
    for path in _files(top):
        if suffix := find_suffix(path.name, VOLUME_SUFFIXES):
            message = f"is outside a subject's folder; move it to <subject>/{IMAGE}{suffix}"
            problems.append(_stray(prefix + path.name, message))
    for folder in _folders(top):
        yield RawCase(prefix + folder.name, "", split)


def _stray(path: str, message: str) -> Problem:
    return Problem(path, message, case=path)


def _name_patients(root: Path, layout: Layout) -> None:
    table = read_patients(root)
    layout.identified = table.present
    if table.present and not table.problems:
        table.match_paths(_all_paths(layout))
        layout.cases = [_named(case, table, layout) for case in layout.cases]
    layout.problems += table.problems
    layout.warnings += table.warnings


def _named(case: RawCase, table: PatientTable, layout: Layout) -> RawCase:
    inner = [f"{case.path}/{IMAGE}{end}" for end in VOLUME_SUFFIXES] if layout.task == "segmentation" else [case.path]
    row = next(filter(None, map(table.find, inner)), None)
    if row is None:
        layout.problems.append(Problem(case.path, f"has no row in {PATIENTS_FILE}; add one", case=case.path))
        return case
    return replace(case, patient=row.patient, written=row.written, attributes=row.attributes)


def _all_paths(layout: Layout) -> Iterator[str]:
    """Every path that a row may name: cases, the folders above them, a subject's files, and what is wrong anyway."""
    for path in [case.path for case in layout.cases] + [problem.path for problem in layout.problems]:
        parts = path.split("/")
        yield from ("/".join(parts[:length]) for length in range(1, len(parts) + 1))
        if layout.task == "segmentation":
            yield from (f"{path}/{stem}{end}" for stem in (IMAGE, LABEL) for end in VOLUME_SUFFIXES)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: can't be listed ({error.strerror}); check its permissions") from None


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir()]


def _files(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if not path.is_dir()]
