"""The way back from a pseudonym to the user's own files, for someone who has the key and the raw data. Torch-free.

Nothing here is written anywhere: the result is for the eyes of the data's owner.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from medloop.documents.split import Task
from medloop.imaging.files import FileError
from medloop.imaging.identity import case_stem, path_pseudonym, patient_pseudonym, pseudonym
from medloop.imaging.layouts import Layout, RawCase, find_cases
from medloop.imaging.progress_lines import Progress
from medloop.imaging.validation import CheckedCase, check_case

_NAME = re.compile(r"(?:^|/)(p[0-9a-f]{12})(?:_(\d+))?(?=$|[./_])")


@dataclass(frozen=True)
class CaseName:
    """A name in an output: a patient's pseudonym, and perhaps the number of one of the patient's cases."""

    patient: str
    number: int | None = None

    @classmethod
    def parse(cls, text: str) -> CaseName | None:
        """The name in a text such as `p0123456789ab`, or `cyst/p0123456789ab_0003.png`; None if there is none."""
        match = _NAME.search(text.strip())
        return cls(match[1], int(match[2]) if match[2] else None) if match else None


@dataclass(frozen=True)
class OwnCase:
    """A file or folder of the user's data.

    Attributes:
        path: Relative to the data set's root.
        name: The case's name in outputs, without suffix; "" if it can't be decoded now.
        patient: The identifier in patients.csv; "" without one.
    """

    path: str
    name: str = ""
    patient: str = ""


def find_own_cases(root: Path, key: bytes, name: CaseName, progress: Progress | None = None) -> list[OwnCase]:
    """Find the cases of a pseudonym in a data set, or the files and folders that a log calls so.

    Args:
        root: The data set's folder.
        key: Of the pseudonyms.
        name: The pseudonym; with a number, that case alone.
        progress: Called with (files decoded, files in all).

    Raises:
        DataError: The folder can't be listed.
    """
    layouts = [find_cases(root, task) for task in get_args(Task)]
    for layout in layouts:
        if matching := _cases_of_patient(layout, root, key, name, progress):
            cases = _numbered(root, layout.task, name.patient, matching)
            return [case for number, case in cases if name.number in (None, number)]
    paths = (path for layout in layouts for path in _paths(layout))
    parts = (OwnCase("/".join(path[: end + 1])) for path in paths for end in _matches(path, key, name.patient))
    return list(dict.fromkeys(parts))


def _cases_of_patient(
    layout: Layout, root: Path, key: bytes, name: CaseName, progress: Progress | None
) -> list[RawCase]:
    if layout.identified:
        return [case for case in layout.cases if name.patient in _pseudonyms(case, key)]
    first = next((case for case in layout.cases if path_pseudonym(key, case.path) == name.patient), None)
    if first is None or layout.task == "segmentation":
        return [first] if first else []
    return _same_images(layout.cases, first, root, progress)


def _pseudonyms(case: RawCase, key: bytes) -> set[str]:
    """Pseudonyms of a case's patient: the present one, and that which earlier versions made of the text as written."""
    return {patient_pseudonym(key, text) for text in (case.patient, case.written) if text}


def _same_images(cases: Sequence[RawCase], first: RawCase, root: Path, progress: Progress | None) -> list[RawCase]:
    """The images with the pixels of the first, in its class: without identifiers, they are one patient's."""
    candidates = [case for case in cases if case.group == first.group]
    checked: dict[str, CheckedCase] = {}
    for done, case in enumerate(candidates, 1):
        if usable := _check(root, case, "classification"):
            checked[case.path] = usable
        if progress:
            progress(done, len(candidates))
    if first.path not in checked:
        return [first]
    digest = checked[first.path].image_digest
    return [case for case in candidates if case.path in checked and checked[case.path].image_digest == digest]


def _numbered(root: Path, task: Task, patient: str, cases: Sequence[RawCase]) -> Iterator[tuple[int | None, OwnCase]]:
    """The cases with their numbers, which follow their content as the split job numbers them."""
    usable = [checked for case in cases if (checked := _check(root, case, task))]
    usable.sort(key=lambda checked: (checked.image_digest, checked.path))
    for number, checked in enumerate(usable):
        name = case_stem(task, patient, number, len(usable))
        yield number, OwnCase(checked.path, name, checked.raw.written)
    readable = {checked.path for checked in usable}
    yield from ((None, OwnCase(case.path, patient=case.written)) for case in cases if case.path not in readable)


def _check(root: Path, case: RawCase, task: Task) -> CheckedCase | None:
    try:
        return check_case(root, case, task)
    except FileError:
        return None


def _paths(layout: Layout) -> Iterator[list[str]]:
    for path in [case.path for case in layout.cases] + [problem.path for problem in layout.problems]:
        yield path.split("/")


def _matches(path: Sequence[str], key: bytes, name: str) -> Iterator[int]:
    """Positions of the parts of a path that a log calls by this pseudonym."""
    return (position for position, part in enumerate(path) if pseudonym(key, part) == name)
