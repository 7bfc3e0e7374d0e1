"""Leakage: test patients that the model was trained or validated on, found in one place for all who report it.

The split job and `medloop data check` know the splits of a data set; Evaluate knows the patients of the model's earlier
training as well. Everything else (evaluation.json, the page, the registry, the summary of a run) repeats the note.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Literal

from pydantic import Field

from medloop.documents.reading import Record

TEST = "test"


class Leakage(Record):
    """Patients in more than one split, or in test and in the training data of the model's first weights."""

    status: Literal["none", "found", "unknown"]
    num_patients: int | None = Field(
        description="Patients found; images found if patients are not known; null where that leaves it unknown"
    )
    num_cases: int = Field(default=0, description="Their test cases: excluded from every score")
    note: str = Field(description="The status and the numbers in one line, the same wherever leakage is reported")


def leaking_patients(cases: Iterable[tuple[str, str]], seen: Collection[str] = ()) -> set[str]:
    """Find the patients in more than one split, and the test patients in `seen`.

    Args:
        cases: Patient and split of each case.
        seen: Patients that a model was trained or validated on.
    """
    splits: dict[str, set[str]] = defaultdict(set)
    for patient, split in cases:
        splits[patient].add(split)
    return {patient for patient, used in splits.items() if len(used) > 1 or (TEST in used and patient in seen)}


def find_leakage(
    cases: Collection[tuple[str, str]], *, identified: bool, doubtful: bool = False, seen: Collection[str] = ()
) -> Leakage:
    """Find leakage.

    Args:
        cases: Patient and split of each case; without identifiers, equal images have one patient.
        identified: True if patients.csv names the patients.
        doubtful: True if there are warnings about the identifiers: two may be one patient's, or one several patients'.
        seen: Patients that the model was trained or validated on.
    """
    leaking = leaking_patients(cases, seen)
    if leaking:
        num_cases = sum(patient in leaking for patient, split in cases if split == TEST)
        note = _note(len(leaking), num_cases, identified, astride=leaking == leaking_patients(cases))
        return Leakage(status="found", num_patients=len(leaking), num_cases=num_cases, note=note)
    if identified:
        doubt = ", if the doubtful identifiers in patients.csv are right (see its warnings)" if doubtful else ""
        return Leakage(status="none", num_patients=0, note=f"none: every patient is in one split{doubt}")
    note = "unknown: no patient identifiers, so a patient may be in more than one split"
    return Leakage(status="unknown", num_patients=None, note=note)


def _note(num_patients: int, num_cases: int, identified: bool, *, astride: bool) -> str:
    noun = "patient" if identified else "image"
    subject = f"1 {noun} is" if num_patients == 1 else f"{num_patients} {noun}s are"
    where = "in more than one split" if astride else "in test and in the model's training data"
    left_out = {0: "none is in test", 1: "1 test case is excluded from every score"}.get(
        num_cases, f"{num_cases} test cases are excluded from every score"
    )
    more = "" if identified else "; without patient identifiers, more may leak"
    return f"FOUND: {subject} {where}; {left_out}{more}"
