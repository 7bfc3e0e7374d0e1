"""Digests of a data set's content: the same images give the same digest under any names. Torch-free."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from medloop.imaging.checked_cases import CheckedCases

_SEPARATOR = "\n"


def digest_of_images(cases: CheckedCases, chosen: NDArray[np.bool_]) -> str:
    """SHA-256 over the sorted content digests of the images: names and labels change nothing.

    Args:
        cases: All cases.
        chosen: [N], the cases that count.
    """
    rows = np.flatnonzero(chosen)
    return _digest_of_lines(cases.images[row] for row in rows[np.argsort(cases.images.values[rows])].tolist())


def data_digest(cases: CheckedCases) -> str:
    """SHA-256 over the sorted classes and content digests: the same images give the same digest under any names."""
    folders, numbers = cases.raw.folders, cases.folder_numbers
    groups = sorted({folders[number].group for number in np.unique(numbers).tolist()}, key=lambda group: f"{group} ")
    if any(f"{later} ".startswith(f"{group} ") for group, later in pairwise(groups)):
        return _digest_of_lines(sorted(_line(cases, row) for row in range(len(cases))))
    return _digest_of_lines(_lines_by_group(cases, groups))


def _lines_by_group(cases: CheckedCases, groups: list[str]) -> Iterator[str]:
    """The lines of all cases, sorted: no class's name, with a blank, begins with another's."""
    of_folder = np.array([groups.index(f.group) if f.group in groups else -1 for f in cases.raw.folders], np.int64)
    of_case = of_folder[cases.folder_numbers]
    for number in range(len(groups)):
        rows = np.flatnonzero(of_case == number)
        if len(labels := cases.labels.values):
            rows = rows[np.argsort(labels[rows], kind="stable")]
        for row in rows[np.argsort(cases.images.values[rows], kind="stable")].tolist():
            yield _line(cases, row)


def _line(cases: CheckedCases, row: int) -> str:
    group = cases.raw.folders[cases.raw.folder_numbers[cases.rows[row]]].group
    return f"{group} {cases.images[row]} {cases.labels[row]}"


def _digest_of_lines(lines: Iterator[str] | list[str]) -> str:
    digest = hashlib.sha256()
    for number, line in enumerate(lines):
        digest.update(f"{'' if number == 0 else _SEPARATOR}{line}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
