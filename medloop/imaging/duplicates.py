"""Cases with the same pixels: one patient, or a problem. Torch-free."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from operator import attrgetter

import numpy as np

from medloop.documents.split import Task
from medloop.imaging.checked_cases import ByCase, CheckedCase, CheckedCases
from medloop.imaging.problems import Problem


def patients_of(cases: CheckedCases) -> ByCase[str]:
    """Patient of each case. An unnamed case is its own patient; duplicates share one, as they must be in one split.

    Numbers are positions of the patients' first cases.
    """
    names = [person.patient for person in cases.raw.people]
    people = cases.raw.person_numbers[cases.rows]
    first = np.arange(len(cases), dtype=np.uint32)
    same: dict[str, int] = {}
    for row in cases.images.repeated().tolist():
        if names[people[row]] is None:
            first[row] = same.setdefault(cases.images[row], row)
    if any(names):
        of_patient: dict[str, int] = {}
        for row, person in enumerate(people.tolist()):
            if (name := names[person]) is not None:
                first[row] = of_patient.setdefault(name, row)
    return ByCase(cases, first, lambda row: names[people[row]] or cases.path(row))


def find_duplicates(cases: CheckedCases, task: Task, identified: bool) -> list[Problem]:
    """The same pixels in two classes, under two patients, or in two subjects of an unnamed set.

    Images of one value show nothing of anyone: they get a warning each.
    """
    groups: dict[str, list[CheckedCase]] = defaultdict(list)
    for row in cases.images.repeated().tolist():
        groups[cases.images[row]].append(cases[row])
    shown = (group for group in groups.values() if not (group[0].facts and group[0].facts.is_constant))
    return [problem for duplicates in shown for problem in _describe(duplicates, task, identified)]


def _describe(duplicates: list[CheckedCase], task: Task, identified: bool) -> Iterator[Problem]:
    """The problem of each of some cases with the same pixels; it names one that belongs elsewhere."""
    if len({case.raw.group for case in duplicates}) > 1:
        message, owner_of = "pixels as {related} of another class; remove the wrong one", attrgetter("raw.group")
    elif identified and len({case.raw.patient for case in duplicates}) > 1:
        message = "pixels as {related} of another patient; remove one or correct patients.csv"
        owner_of = attrgetter("raw.patient")
    elif task == "segmentation" and not identified:
        message = "voxels as {related}; remove one, or give both one patient in patients.csv"
        owner_of = attrgetter("path")
    else:
        return
    first = duplicates[0]
    second = next(case for case in duplicates if owner_of(case) != owner_of(first))
    for case in duplicates:
        other = second if owner_of(case) == owner_of(first) else first
        yield Problem(case.path, f"shows the same {message}", case=case.path, related=other.path)
