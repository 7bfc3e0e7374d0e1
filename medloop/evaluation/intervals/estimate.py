"""A statistic of the test set with what is known of its error, from patients as clusters of cases.

Cases of one patient resemble each other, so every method here takes the patient as the unit that was sampled: two
slices of one patient prove no more than one. Fewer than `MIN_PATIENTS` patients carry no interval worth showing.
docs/evaluation.md says which method a statistic has, and how often it covers the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from medloop.documents.evaluation import Interval, Statistic

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
MIN_PATIENTS = 10
LEVEL = 0.95
UPPER = (1 + LEVEL) / 2
NORMAL_QUANTILE = float(ndtri(UPPER))
UNKNOWN = "No interval: the patients are not known."
EQUAL = "No interval: all values are equal."


@dataclass(frozen=True)
class Sample:
    """The cases (or lesions) behind a metric, as a method for its interval takes them."""

    values: Any
    """[N] numbers, NaN for a case that is left out; for the AUROC a list of (positive [N], scores [N])."""
    patients: Sequence[str]
    """The patient of each value; empty where patients are not known."""
    num_excluded: int = 0
    """Cases left out: nothing to score in truth or prediction."""
    num_failures: int = 0
    """Cases with truth or prediction alone, which count as worst."""


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error and its interval."""

    value: float
    """NaN where undefined."""
    num_cases: int
    num_patients: int | None
    """None where patients are not known."""
    standard_error: float = 0.0
    """0 where it isn't known."""
    interval: Interval | None = None
    note: str = ""
    """Why there is no value or no interval."""
    num_excluded: int = 0
    num_failures: int = 0

    def statistic(
        self, name: str, class_name: str = "", *, unit: Literal["", "mm", "voxels", "ml"] = "", note: str = ""
    ) -> Statistic:
        """As evaluation.json has it; `note` is added to the estimate's own."""
        return Statistic(
            name=name,
            class_name=class_name,
            value=self.value if math.isfinite(self.value) else None,
            interval=self.interval,
            unit=unit,
            num_patients=self.num_patients,
            num_cases=self.num_cases,
            num_excluded=self.num_excluded,
            num_failures=self.num_failures,
            note=" ".join(part for part in (note, self.note) if part),
        )


def undefined(patients: Sequence[str], note: str, num_cases: int = 0) -> Estimate:
    """No value."""
    return Estimate(math.nan, num_cases, count_patients(patients, num_cases), note=note)


def point_estimate(value: float, patients: Sequence[str], num_cases: int, note: str, error: float = 0.0) -> Estimate:
    """A value without an interval."""
    return Estimate(value, num_cases, count_patients(patients, num_cases), error, note=note)


def count_patients(patients: Sequence[str], num_cases: int) -> int | None:
    """Their number; None where there are cases, but no patients."""
    return len(set(patients)) if len(patients) or not num_cases else None


def reason_without_interval(patients: Sequence[str], num_cases: int) -> str:
    """Why these patients carry no interval; empty where they do."""
    number = count_patients(patients, num_cases)
    if number is None:
        return UNKNOWN
    if number < MIN_PATIENTS:
        return f"No interval: {number} patients, fewer than {MIN_PATIENTS}."
    return ""


def without_interval(
    values: Floats, patients: Sequence[str], statistic: Callable[[Floats], np.floating[Any]], absent: str
) -> Estimate | None:
    """The estimate where there is no value, or no interval for want of patients; None where there can be one.

    Args:
        values: [N], finite.
        patients: The patient of each; empty where patients are not known.
        statistic: Of the values.
        absent: Says that there is no value.
    """
    if not len(values):
        return undefined(patients, absent)
    reason = reason_without_interval(patients, len(values))
    return point_estimate(float(statistic(values)), patients, len(values), reason) if reason else None


def subset(patients: Sequence[str], mask: NDArray[np.bool_]) -> list[str]:
    """The patients of some cases; none where none are known."""
    return [patient for patient, inside in zip(patients, mask, strict=True) if inside] if len(patients) else []


def finite(values: Floats, patients: Sequence[str]) -> tuple[Floats, list[str]]:
    """The values that there are (NaN is none), and their patients.

    Raises:
        ValueError: A value is infinite; it has to stand for itself by a finite one, such as the image's diagonal.
    """
    found = np.asarray(values, dtype=np.float64)
    if np.isinf(found).any():
        raise ValueError("infinite values have no mean or median: give the worst finite one in their place")
    kept = np.isfinite(found)
    return found[kept], subset(patients, kept)


def index_patients(patients: Sequence[str]) -> tuple[int, Indices]:
    """The number P of patients, and each case's patient as an index below P."""
    names, of_case = np.unique(np.asarray(patients), return_inverse=True)
    return len(names), of_case


def totals(values: Any, of_case: Indices, num_patients: int) -> Floats:
    """Each patient's sum over its cases [P]."""
    sums: Floats = np.bincount(of_case, values, minlength=num_patients).astype(np.float64)
    return sums


def student_quantile(degrees: float) -> float:
    """Of the two-sided interval."""
    return float(stdtrit(degrees, UPPER))


def make_interval(lower: float, upper: float, method: str) -> Interval:
    """At `LEVEL`."""
    return Interval(lower=float(lower), upper=float(upper), level=LEVEL, method=method)
