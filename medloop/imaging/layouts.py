"""Layouts of data sets in folders, and their cases. Nothing is decoded here. Torch-free.

Classification: `<class>/<image>`. Segmentation: `<subject>/img` and `label`, each with the suffix of its format
(`medloop.imaging.formats`). Either may be stored below `train`, `val` (or `valid`) and `test`, and is then split
already; the names of these folders may be written otherwise (`Training`, `VALID`). `patients.csv` in the root names the
patients. Hidden files, and those that operating systems add, are not seen. Links are followed, at these depths
only; nothing is ever written through them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

from medloop.documents.names import tidy
from medloop.documents.split import Split, Task
from medloop.errors import DataError
from medloop.imaging.class_names import find_same_classes
from medloop.imaging.foreign_layouts import (
    boxes,
    is_subject,
    looks_like,
    mistaken_classes,
    recognise,
    table_of_images,
    tasks_by_files,
)
from medloop.imaging.formats import IMAGE_SUFFIXES, VOLUME_SUFFIXES, find_suffix, usual_suffixes
from medloop.imaging.listing import DOCUMENTS, DataFolder, names_not_in_utf8, walk
from medloop.imaging.listing import IMAGE as IMAGE
from medloop.imaging.listing import LABEL as LABEL
from medloop.imaging.patients import PATIENTS_FILE, PatientTable, read_patients
from medloop.imaging.problems import Problem
from medloop.imaging.raw_cases import RawCase as RawCase
from medloop.imaging.raw_cases import RawCases

SPLIT_FOLDERS: dict[str, Split] = {
    **{"train": "train", "training": "train"},
    **{"val": "val", "valid": "val", "validation": "val", "validate": "val"},
    **{"test": "test", "testing": "test"},
}
"""Split by the name of its folder, in lower case."""
NOT_UTF8 = "its name is not in UTF-8, and keys in S3 must be; rename it (convmv -r -f latin1 -t utf8 --notest FOLDER)"
_SPELLINGS = (form(name) for name in SPLIT_FOLDERS for form in (str.lower, str.title, str.upper))
_SUBJECT_FILES = (stem + suffix for stem in (IMAGE, LABEL) for suffix in VOLUME_SUFFIXES)
_UNREAD_VOLUMES = (".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".hdr", ".dcm")
SAFE_NAMES = frozenset([*_SPELLINGS, *_SUBJECT_FILES, PATIENTS_FILE])
"""Parts of paths that never name a patient."""
LAYOUTS: dict[Task, str] = {
    "classification": f"<class>/<image>{usual_suffixes('classification')}",
    "segmentation": " and ".join(f"<subject>/{stem}{usual_suffixes('segmentation')}" for stem in (IMAGE, LABEL)),
}


@dataclass
class Layout:
    """The cases of a data set's folders, and the problems of its layout."""

    task: Task
    presplit: bool
    cases: RawCases
    problems: list[Problem]
    identified: bool
    """True if patients.csv is there."""
    warnings: list[Problem] = field(default_factory=list)
    """What the data set's owner should know, and what doesn't keep the data from being used."""
    is_foreign: bool = False
    """True if the folders have another layout, which is the only problem then."""


def find_cases(root: Path, task: Task) -> Layout:
    """List the cases of a data set, sorted by path.

    Raises:
        DataError: The root is no folder or can't be listed.
    """
    if not root.is_dir():
        raise DataError(f"{root}: is no folder; give the data set's folder")
    layout = Layout(task, False, RawCases(), [], False)
    top = DataFolder(root)
    splits = _split_folders(top, layout)
    layout.presplit = bool(splits)
    tops = splits or [top]
    finder = _classified if task == "classification" else _segmented
    layout.cases = RawCases(
        case
        for folder in tops
        for case in finder(folder, split_of_folder(folder.name) if splits else None, layout.problems)
    )
    if foreign := _foreign_layout(tops, layout):
        layout.cases, layout.problems, layout.is_foreign = RawCases(), [foreign], True
    else:
        folders = layout.cases.folders
        layout.warnings += find_same_classes((folder.group, folder.path.rstrip("/")) for folder in folders)
        layout.cases.rename_groups({folder.group: tidy(folder.group) for folder in folders})
        _name_patients(root, layout)
        layout.warnings += _unread_tables(tops, task)
    layout.problems += [Problem(path, NOT_UTF8) for path in names_not_in_utf8(root)]
    return layout


def infer_tasks(root: Path) -> list[Task]:
    """The tasks that a data set may be for: by its folders, at the top or one level below, else by its files.

    If they fit none, the one for which another layout is recognised; for which is both, files of volumes decide.

    Raises:
        DataError: The root is no folder or can't be listed.
    """
    if not root.is_dir():
        raise DataError(f"{root}: is no folder; give the data set's folder")
    top = DataFolder(root)
    if tasks := looks_like(top):
        return sorted(tasks)
    tasks_by_volumes: tuple[Task, Task] = ("classification", "segmentation")
    order = sorted(tasks_by_volumes, reverse=_has_volumes(top))
    return [task for task in order if recognise(top, task)][:1] or sorted(tasks_by_files(top))


def advise_missing(folder: Path) -> str:
    """Return the fix if a file of a subject is missing; files' names aren't in it, as they may be patients'."""
    paths = sorted(folder.iterdir())
    names = [path.name.lower() for path in paths if path.is_file() and not path.name.startswith(".")]
    if end := next((end for end in _UNREAD_VOLUMES if any(name.endswith(end) for name in names)), None):
        return f"its folder contains {end} files, which are not read; convert them to .nii.gz"
    other = (
        name
        for name in names
        if name.startswith((f"{IMAGE}.", f"{LABEL}.")) and not name.endswith((*VOLUME_SUFFIXES, *DOCUMENTS))
    )
    if name := next(other, None):
        return f"its folder contains {name}, which is not read; convert it to .nii.gz"
    named = [name for name in names if name.endswith(VOLUME_SUFFIXES) and not name.startswith((IMAGE, LABEL))]
    return "rename the volume in its folder" if named else "add it or remove the subject's folder"


def split_of_folder(name: str) -> Split | None:
    """The split that a folder's name stands for, in upper or lower case."""
    return SPLIT_FOLDERS.get(name.lower())


def _split_folders(root: DataFolder, layout: Layout) -> list[DataFolder]:
    """The folders of a data set that is already split: one is for training."""
    by_split: dict[Split, list[DataFolder]] = {}
    for folder in root.folders:
        if split := split_of_folder(folder.name):
            by_split.setdefault(split, []).append(folder)
    if "train" not in by_split:
        return []
    train = by_split["train"][0].name
    for folder in root.folders:
        if not split_of_folder(folder.name):
            message = (
                f"is next to the folder {train}; if it is a split, name it train, val or test, if a class, move it"
            )
            message += " into one of these"
            layout.problems.append(Problem(folder.name, message, folder.name))
    for first, *duplicates in by_split.values():
        if duplicates:
            message = (
                f"folders {first.name} and {duplicates[0].name} are both there; move the cases of one into the other"
            )
            layout.problems.append(Problem(duplicates[0].name, message))
    return [folder for folder in root.folders if split_of_folder(folder.name)]


def _foreign_layout(tops: list[DataFolder], layout: Layout) -> Problem | None:
    """The problem of a data set in which no case is where it should be, or whose classes are no classes."""
    if layout.task == "segmentation":
        standard = any(is_subject(folder) for top in tops for folder in top.folders)
        return None if standard else recognise(tops[0], layout.task)
    if not layout.cases:
        return recognise(tops[0], layout.task)
    if len({folder.group for folder in layout.cases.folders}) > 2:
        return None
    advice = mistaken_classes(tops[0]) or boxes(tops[0]) or table_of_images(tops[0])
    return advice.problem() if advice else None


def _classified(top: DataFolder, split: Split | None, problems: list[Problem]) -> Iterator[RawCase]:
    for name in top.files_with(IMAGE_SUFFIXES):
        problems.append(_stray(top.below(name), "is outside a class folder; move it into one"))
    for folder in top.folders:
        for inner in folder.folders:
            message = "is a folder inside a class folder; move it out, or its images into the class under own names"
            problems.append(_stray(inner.relative, message))
        for name in folder.files:
            if find_suffix(name, IMAGE_SUFFIXES):
                yield RawCase(folder.below(name), folder.name, split)
            elif not name.lower().endswith(DOCUMENTS):
                message = f"is no {usual_suffixes('classification')} file; convert or remove it"
                problems.append(_stray(folder.below(name), message))
        if not (folder.files or folder.folders or split):
            problems.append(_stray(folder.relative, "class folder is empty; add images or remove it"))


def _segmented(top: DataFolder, split: Split | None, problems: list[Problem]) -> Iterator[RawCase]:
    for name in top.files:
        if suffix := find_suffix(name, VOLUME_SUFFIXES):
            message = f"is outside a subject's folder; move an image to <subject>/{IMAGE}{suffix}, a label to {LABEL}"
            problems.append(_stray(top.below(name), message))
    for folder in top.folders:
        yield RawCase(folder.relative, "", split)


def _stray(path: str, message: str) -> Problem:
    return Problem(path, message, case=path)


def _name_patients(root: Path, layout: Layout) -> None:
    table = read_patients(root)
    layout.identified = table.present
    if table.present and not table.problems:
        table.match_paths(_all_paths(layout))
        layout.cases = RawCases(_named(case, table, layout) for case in layout.cases)
    layout.problems += table.problems
    layout.warnings += table.warnings


def _unread_tables(tops: list[DataFolder], task: Task) -> Iterator[Problem]:
    """Warn of tables of patients in folders of splits and classes."""
    for folder in (each for top in tops for each in (top, *(top.folders if task == "classification" else ()))):
        if folder.relative and (name := next((n for n in folder.files if n.lower() == PATIENTS_FILE), None)):
            message = (
                f"is not read; write its rows into {PATIENTS_FILE} in the data set's folder, with paths from there"
            )
            yield Problem(folder.below(name), message)


def _named(case: RawCase, table: PatientTable, layout: Layout) -> RawCase:
    inner = [f"{case.path}/{IMAGE}{end}" for end in VOLUME_SUFFIXES] if layout.task == "segmentation" else [case.path]
    row = next(filter(None, map(table.find, inner)), None)
    if row is None:
        layout.problems.append(Problem(case.path, f"has no row in {PATIENTS_FILE}; add one", case=case.path))
        return case
    return replace(case, patient=row.patient, written=row.written, attributes=row.attributes)


def _all_paths(layout: Layout) -> Iterator[str]:
    """Every path that a row may name: cases, the folders above them, a subject's files, and what is wrong anyway."""
    for path in chain((case.path for case in layout.cases), (problem.path for problem in layout.problems)):
        parts = path.split("/")
        yield from ("/".join(parts[:length]) for length in range(1, len(parts) + 1))
        if layout.task == "segmentation":
            yield from (f"{path}/{stem}{end}" for stem in (IMAGE, LABEL) for end in VOLUME_SUFFIXES)


def _has_volumes(root: DataFolder) -> bool:
    """True if one of the folders has files of volumes."""
    return any(folder.files_with(VOLUME_SUFFIXES) for folder in islice(walk(root), 200))
