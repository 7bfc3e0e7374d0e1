"""Cases with the same pixels: one patient, or a problem. Torch-free."""

from __future__ import annotations

from collections import defaultdict

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
    """The same pixels in two classes, under two patients, or in two subjects of an unnamed set."""
    groups: dict[str, list[CheckedCase]] = defaultdict(list)
    for row in cases.images.repeated().tolist():
        groups[cases.images[row]].append(cases[row])
    problems = []
    for duplicates in groups.values():
        if len({case.raw.group for case in duplicates}) > 1:
            message = "shows the same pixels as {related} of another class; remove the wrong one"
        elif identified and len({case.raw.patient for case in duplicates}) > 1:
            message = "shows the same pixels as {related} of another patient; remove one or correct patients.csv"
        elif task == "segmentation" and not identified:
            message = "shows the same voxels as {related}; remove one, or give both one patient in patients.csv"
        else:
            continue
        for case in duplicates:
            duplicate = duplicates[0] if case is not duplicates[0] else duplicates[1]
            problems.append(Problem(case.path, message, case=case.path, related=duplicate.path))
    return problems
