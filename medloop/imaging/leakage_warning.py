"""The warning of leakage in a ready-made split. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

from medloop.documents.leakage import Leakage, leaking_patients
from medloop.imaging.problems import Problem

MAX_LISTED = 6
"""Cases that one message names."""


def describe_leakage(leakage: Leakage, paths: Sequence[str], cases: Sequence[tuple[str, str]]) -> list[Problem]:
    """The warning; for the data's owner, it names the cases of the first patients.

    Args:
        leakage: Of the data set.
        paths: Of the cases.
        cases: Their patients and splits.
    """
    if leakage.status != "found":
        return []
    leaking = leaking_patients(cases)
    listed = [path for path, (patient, _) in zip(paths, cases, strict=True) if patient in leaking]
    more = f" and {len(listed) - MAX_LISTED} more" if len(listed) > MAX_LISTED else ""
    named = f"leakage {leakage.note}: {', '.join(listed[:MAX_LISTED])}{more}; keep each in one split"
    return [Problem("", f"leakage {leakage.note}", for_owner=named)]
