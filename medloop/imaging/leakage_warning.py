"""Patients in more than one split, and the warning of them in a ready-made split. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.documents.leakage import Leakage
from medloop.imaging.problems import Problem

MAX_LISTED = 6
"""Cases that one message names."""


def describe_leakage(leakage: Leakage, paths: Sequence[str]) -> list[Problem]:
    """The warning; for the data's owner, it names the cases of the first patients.

    Args:
        leakage: Of the data set.
        paths: Of the cases of patients in more than one split.
    """
    if leakage.status != "found":
        return []
    more = f" and {len(paths) - MAX_LISTED} more" if len(paths) > MAX_LISTED else ""
    named = f"leakage {leakage.note}: {', '.join(paths[:MAX_LISTED])}{more}; keep each in one split"
    return [Problem("", f"leakage {leakage.note}", for_owner=named)]


def rows_of_split_patients(patients: NDArray[np.integer[Any]], splits: NDArray[np.int8]) -> list[int]:
    """Positions of the cases of patients who are in more than one split.

    Args:
        patients: A number of each case's patient [N].
        splits: Position of each case's split in SPLITS [N].
    """
    if len(splits) == 0 or (splits == splits[0]).all():
        return []
    _, numbers = np.unique(patients, return_inverse=True)
    first = np.zeros(len(splits), np.int8)
    first[numbers] = splits
    is_split = np.zeros(len(splits), np.bool_)
    is_split[numbers[first[numbers] != splits]] = True
    rows: list[int] = np.flatnonzero(is_split[numbers]).tolist()
    return rows
