"""The one validator of data sets: `medloop data check`, the split job and serving use it. Torch-free.

Every file is opened and decoded. The result is a list of problems, each in one line that names the file or field and
the fix; nothing is raised for a bad file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.documents.image_statistics import ImageStatistics
from medloop.documents.leakage import Leakage, find_leakage
from medloop.documents.split import SPLITS, Split, Task
from medloop.imaging.checked_cases import ByCase, CheckedCases, Content, Memory, count_classes, read_contents
from medloop.imaging.checked_cases import CheckedCase as CheckedCase
from medloop.imaging.class_names import alike_to, doubtful_classes, misplaced_background
from medloop.imaging.duplicates import find_duplicates, patients_of
from medloop.imaging.empty_slices import describe_empty_slices
from medloop.imaging.files import UNKNOWN, FileError, Source, Volume, array_digest
from medloop.imaging.formats import VOLUME_SUFFIXES, read_image_and_format, read_volume, read_volume_header
from medloop.imaging.grids import compare_grids
from medloop.imaging.image_facts import ImageFacts, find_differences, measure_image, summarise
from medloop.imaging.label_values import advise_gaps, advise_outside
from medloop.imaging.layouts import IMAGE, LABEL, LAYOUTS, Layout, RawCase, advise_missing, find_cases
from medloop.imaging.leakage_warning import describe_leakage, rows_of_split_patients
from medloop.imaging.network_grid import grid_of
from medloop.imaging.patients import PATIENTS_FILE
from medloop.imaging.pictures import pixel_digest
from medloop.imaging.problems import Problem
from medloop.imaging.progress_lines import Progress
from medloop.imaging.similar_images import make_thumbnail
from medloop.imaging.volume_memory import processes_for_volumes

MAX_LABEL = 255
LABEL_TOLERANCE = 1e-3
"""Largest distance of a label value from a whole number: rounding of floats, not the mean of two labels."""


@dataclass(frozen=True)
class Subject:
    """A subject's volumes, on one grid.

    Attributes:
        image: As its file has it.
        label: uint8, on the image's grid.
        values: Label values that occur, sorted.
        warnings: (file, what is odd about it) of files that are used all the same.
    """

    image: Volume
    label: Volume
    values: tuple[int, ...]
    warnings: tuple[tuple[Path, str], ...] = ()


@dataclass
class DatasetReport:
    """The cases and problems of a data set.

    Attributes:
        task: The task it was read for.
        cases: Those that can be used, sorted by path.
        problems: All problems; the data set is usable when there are none.
        classes: Class names, sorted (classification), or by label value (segmentation).
        patients: Patient of each usable case, by path, from patients.csv; else cases with the same pixels share one.
        presplit: True if it has train, val and test folders.
        identified: True if patients.csv is there.
    """

    task: Task
    cases: CheckedCases
    problems: list[Problem]
    classes: list[str]
    patients: ByCase[str]
    presplit: bool
    identified: bool
    counts: dict[str, int] = field(default_factory=dict)
    """Usable cases of each class; in segmentation, those in which the class occurs."""
    warnings: list[Problem] = field(default_factory=list)
    """What doesn't keep the data set from being used."""
    split_of: Mapping[str, Split] = field(default_factory=dict)
    """The planned split of each usable case, by path, in the order of the cases; empty before it is planned."""

    @property
    def images(self) -> ImageStatistics | None:
        """Statistics of all usable images, their range that of the training split; None in segmentation."""
        if not (facts := self.cases.facts()):
            return None
        is_trained = np.array([split == "train" for split in self.split_of.values()], np.bool_)
        return summarise(facts, self.cases.facts(is_trained) if len(is_trained) else ())

    @property
    def patients_known(self) -> bool:
        """True if patients.csv is there and can be used."""
        return self.identified and not any(problem.path == PATIENTS_FILE for problem in self.problems)

    @property
    def num_patients(self) -> int:
        """Number of the usable cases' patients."""
        return len(np.unique(self.patients.numbers))

    def num_patients_of_classes(self) -> dict[str, int]:
        """Number of the patients with cases of each class."""
        numbers, combinations = self.cases.classes(self.classes)
        pairs = np.unique(numbers * (1 + len(self.cases)) + self.patients.numbers)
        classes, patients = np.divmod(pairs, 1 + len(self.cases))
        occurs = {name: [name in names for names in combinations] for name in self.classes}
        return {name: len(np.unique(patients[np.array(has, np.bool_)[classes]])) for name, has in occurs.items()}

    @property
    def leakage(self) -> Leakage:
        """Leakage of a ready-made split; a split that is still to be made assigns whole patients."""
        cases = [(patient, split) for _, patient, split in _leaking_cases(self)]
        return find_leakage(cases, identified=self.patients_known, doubtful=bool(self.doubts_of_identifiers))

    @property
    def splits(self) -> NDArray[np.int8]:
        """Position in SPLITS of the split whose folder contains each usable case, train's without any [N]."""
        splits = [SPLITS.index(folder.split or "train") for folder in self.cases.raw.folders]
        return np.array(splits, np.int8)[self.cases.folder_numbers]

    @property
    def doubts_of_identifiers(self) -> list[str]:
        """The warnings about identifiers in patients.csv, without names; its other warnings name no patient."""
        return [each.message for each in self.warnings if each.path == PATIENTS_FILE and each.for_owner]


def check_dataset(
    root: Path,
    task: Task,
    labels: Sequence[str] | None = None,
    progress: Progress | None = None,
    memory: Memory | None = None,
) -> DatasetReport:
    """Check every file of a data set, and the set as a whole.

    Args:
        root: The data set's folder.
        task: Which of the two layouts it has.
        labels: Segmentation: class names by label value, the background first; None takes the values that occur.
        progress: Called with (cases done, cases in all).
        memory: Knows the content of files that an earlier check read; None reads all.

    Raises:
        DataError: The root is no folder or can't be listed; everything else is a problem in the report.
    """
    layout = find_cases(root, task)
    problems = list(layout.problems)
    checked = CheckedCases(layout.cases)
    read = partial(_content_or_problem, root, task, labels)
    workers = partial(processes_for_volumes, root, layout.cases) if task == "segmentation" else None
    for row, content in enumerate(read_contents(layout.cases, read, memory, workers)):
        if isinstance(content, Problem):
            problems.append(content)
        else:
            checked.append(row, content)
        if progress:
            progress(row + 1, len(layout.cases))
    problems += find_duplicates(checked, task, layout.identified)
    if unusable := {problem.case for problem in problems if problem.case is not None}:
        checked = checked.select(np.array([path not in unusable for path in checked.paths], np.bool_))
    return _make_report(layout, checked, problems, labels)


def _content_or_problem(root: Path, task: Task, labels: Sequence[str] | None, case: RawCase) -> Content | Problem:
    try:
        return check_case(root, case, task, labels).content
    except FileError as error:
        path = error.path.relative_to(root).as_posix() if error.path.is_relative_to(root) else case.path
        return Problem(path, error.reason, case=case.path)


def _make_report(
    layout: Layout, usable: CheckedCases, problems: list[Problem], labels: Sequence[str] | None
) -> DatasetReport:
    """The report: classes, patients, counts, and what is wrong with the usable cases as a whole."""
    segmentation = layout.task == "segmentation"
    classes = _label_names(usable, labels) if segmentation else _groups(usable)
    report = DatasetReport(
        layout.task, usable, problems, classes, patients_of(usable), layout.presplit, layout.identified
    )
    report.counts = {name: count for name, count in count_classes(usable, classes).items() if count}
    if usable or not layout.is_foreign:
        report.problems += [Problem("", message) for message in _dataset_problems(report, labels)]
    report.warnings += [*layout.warnings, *usable.warnings]
    report.warnings += _image_differences(usable)
    report.warnings += [
        *doubtful_classes(classes),
        *(misplaced_background(classes) if segmentation else ()),
        *describe_leakage(report.leakage, [path for path, *_ in _leaking_cases(report)]),
    ]
    return report


def _groups(cases: CheckedCases, chosen: NDArray[np.bool_] | slice = slice(None)) -> list[str]:
    """The classes of images, sorted."""
    return sorted({cases.raw.folders[number].group for number in np.unique(cases.folder_numbers[chosen]).tolist()})


def _leaking_cases(report: DatasetReport) -> Iterator[tuple[str, str, str]]:
    """Path, patient and split of each case of a patient in more than one split; the others needn't be looked at."""
    for position in rows_of_split_patients(report.patients.numbers, report.splits):
        yield report.cases.path(position), report.patients.at(position), SPLITS[report.splits[position]]


def check_case(root: Path, case: RawCase, task: Task, labels: Sequence[str] | None = None) -> CheckedCase:
    """Decode one case.

    Raises:
        FileError: A file can't be used.
    """
    if task == "classification":
        return _check_image(case, *read_image_and_format(root / case.path))
    subject = read_subject(root / case.path, labels)
    warnings = tuple(Problem(path.relative_to(root).as_posix(), text) for path, text in subject.warnings)
    digests = array_digest(subject.image.voxels), array_digest(subject.label.voxels)
    grid = grid_of(subject.image, require_volume(root / case.path, IMAGE).name)
    return CheckedCase(case, *digests, subject.values, warnings, grid=grid)


def _check_image(case: RawCase, pixels: NDArray[Any], form: str) -> CheckedCase:
    facts = measure_image(pixels, form)
    message = "has one value everywhere; check that this is the intended image, or remove it"
    warnings = (Problem(case.path, message),) if facts.is_constant else ()
    digest, thumbnail = pixel_digest(pixels, facts.colour), make_thumbnail(pixels)
    return CheckedCase(case, digest, warnings=warnings, facts=facts, thumbnail=thumbnail)


def _image_differences(cases: CheckedCases) -> list[Problem]:
    groups: dict[str, list[ImageFacts]] = defaultdict(list)
    facts, folders = cases.facts(), cases.raw.folders
    for number, known in zip(cases.folder_numbers.tolist() if facts else (), facts, strict=True):
        groups[folders[number].group].append(known)
    return [Problem("", message) for message in find_differences(groups)]


def read_subject(folder: Path, labels: Sequence[str] | None) -> Subject:
    """Read image and label of a subject's folder; the split, training and evaluation read them so.

    Args:
        folder: The subject's.
        labels: Class names by label value, the background first; None takes any up to MAX_LABEL.

    Raises:
        FileError: A file is missing or can't be used, the arrays don't correspond, or a label value has no name.
    """
    image_path, label_path = (require_volume(folder, stem) for stem in (IMAGE, LABEL))
    image, label = read_volume(image_path), read_volume(label_path)
    warnings = [(path, text) for path, volume in ((image_path, image), (label_path, label)) for text in volume.warnings]
    if difference := compare_grids(image, label):
        if not difference.corresponds:
            raise FileError(label_path, difference.message)
        warnings.append((label_path, difference.message))
        if difference.axes is not None:
            from nibabel.orientations import apply_orientation

            label = replace(label, voxels=apply_orientation(label.voxels, difference.axes))
    require_contrast(image_path, image.voxels)
    if text := describe_empty_slices(image):
        warnings.append((image_path, text))
    voxels, values = _read_labels(label_path, label, labels)
    return Subject(image, Volume(voxels, image.affine, label.unit), values, tuple(warnings))


def require_contrast(path: Source, voxels: NDArray[np.generic]) -> None:
    """Refuse a volume that shows nothing.

    Raises:
        FileError: All its voxels have one value.
    """
    if (voxels == voxels.flat[0]).all():
        raise FileError(path, "has one value everywhere; replace or remove it")


def find_without_unit(root: Path, report: DatasetReport) -> str | None:
    """The first subject whose label and image state no unit of lengths; None if all have one.

    Raises:
        FileError: A header can't be read.
    """
    return next((case.path for case in report.cases if UNKNOWN in units_of(root / case.path)[1:]), None)


def units_of(folder: Path) -> tuple[str, str]:
    """A subject's units of lengths: its label's own, and the one that counts, the image's if that is none."""
    label_unit = read_volume_header(require_volume(folder, LABEL)).unit
    image_unit = read_volume_header(require_volume(folder, IMAGE)).unit
    return label_unit, image_unit if label_unit == UNKNOWN else label_unit


def require_volume(folder: Path, stem: str) -> Path:
    """The path of a subject's `img` or `label`.

    Raises:
        FileError: It isn't there, or is there twice.
    """
    paths = [folder / (stem + end) for end in VOLUME_SUFFIXES if (folder / (stem + end)).exists()]
    if not paths:
        raise FileError(folder / f"{stem}{VOLUME_SUFFIXES[0]}", f"is missing; {advise_missing(folder)}")
    if len(paths) > 1:
        raise FileError(paths[0], f"is next to {paths[1].name}, and only one can be used; remove the other")
    return paths[0]


def _read_labels(path: Path, label: Volume, labels: Sequence[str] | None) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    """The label values of all voxels, rounded where resampling left 0.9999999, and those that occur, sorted."""
    values = np.unique(label.voxels)
    rounded = np.rint(values)
    bound = len(labels) - 1 if labels else MAX_LABEL
    outside = values[(rounded < 0) | (rounded > bound) | (np.abs(values - rounded) > LABEL_TOLERANCE)]
    if outside.size:
        shown = ", ".join(f"{value:g}" for value in outside[:5])
        fix = advise_outside(values, outside, labels)
        names = f"0 to {bound}" + (f" ({', '.join(labels)})" if labels else "")
        raise FileError(path, f"has label values {shown} that are no whole numbers from {names}; {fix}")
    voxels = label.voxels if label.voxels.dtype.kind in "iu" else np.rint(label.voxels)
    return voxels.astype(np.uint8), tuple(sorted({int(value) for value in rounded}))


def _label_names(cases: CheckedCases, labels: Sequence[str] | None) -> list[str]:
    if labels:
        return list(labels)
    highest = max(cases.values, default=0)
    return ["background", *(f"label {value}" for value in range(1, highest + 1))]


def _dataset_problems(report: DatasetReport, labels: Sequence[str] | None) -> list[str]:
    if not report.cases:
        return [f"contains no usable case; a {report.task} data set has {LAYOUTS[report.task]}"]
    messages = _class_problems(report) if report.task == "classification" else _label_problems(report, labels)
    if report.presplit:
        missing = [split for number, split in enumerate(SPLITS) if not (report.splits == number).any()]
        trained = np.unique(report.patients.numbers[report.splits == SPLITS.index("train")])
        if len(trained) < 1 + len(missing):
            needed = f"needs {1 + len(missing)} patients, as {' and '.join(missing) or 'training'} is taken from it"
            messages.append(f"folder train has {len(trained)} patients and {needed}; add patients")
    elif report.num_patients < len(SPLITS):
        messages.append(f"has {report.num_patients} patients for {len(SPLITS)} splits; add patients")
    return messages


def _class_problems(report: DatasetReport) -> list[str]:
    messages = []
    if len(report.classes) < 2:
        messages.append("has one class only; add a folder with images of another class")
    if report.presplit:
        trained = _groups(report.cases, report.splits == SPLITS.index("train"))
        unseen = sorted(set(report.classes) - set(trained))
        if unseen:
            other = alike_to(unseen[0], trained)
            fix = f"which has class {other}; give one class one name" if other else "add some or remove the class"
            messages.append(f"class {unseen[0]} has no image in folder train{', ' if other else '; '}{fix}")
    return messages


def _label_problems(report: DatasetReport, labels: Sequence[str] | None) -> list[str]:
    values = report.cases.values
    if not values - {0}:
        return ["every label is empty; label at least one structure"]
    gaps = sorted(set(range(max(values) + 1)) - values)
    if gaps and not labels:
        listed = ", ".join(map(str, sorted(values)))
        return [f"label values {listed} leave gaps; {advise_gaps(case.values for case in report.cases)}"]
    return [_unused_names(labels, values)] if labels and set(range(1, len(labels))) - values else []


def _unused_names(labels: Sequence[str], values: set[int]) -> str:
    """Training refuses a name that it can't learn. The values are in the message: a name may be at a wrong position."""
    used, unused = (
        ", ".join(f"{value} ({name})" for value, name in enumerate(labels) if (value in values) == occurs)
        for occurs in (True, False)
    )
    names = "name those" if values >= set(range(1, max(values))) else "renumber those without gaps, name them"
    return f"the labels contain values {used}, and no voxel of {unused}; {names} alone, or add subjects with the others"
