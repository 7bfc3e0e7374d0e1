"""An estimate of a metric with its standard error and interval, with patients as clusters of cases.

Cases of one patient resemble each other, so in every method the sampled unit is the patient: two slices of one patient
are no more evidence than one. Fewer than `MIN_PATIENTS` patients have no interval.
docs/evaluation.md has the method of each metric, and how often it covers the truth.
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
from medloop.documents.split_rule import MIN_PATIENTS

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
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
    """Cases with only truth or prediction, which count as worst."""


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error and its interval."""

    value: float
    """NaN if undefined."""
    num_cases: int
    num_patients: int | None
    """None if patients are not known."""
    standard_error: float = 0.0
    """0 if it is not known."""
    interval: Interval | None = None
    note: str = ""
    """The reason if there is no value or no interval."""
    num_excluded: int = 0
    num_failures: int = 0

    def statistic(
        self, name: str, class_name: str = "", *, unit: Literal["", "mm", "voxels", "ml"] = "", note: str = ""
    ) -> Statistic:
        """Make evaluation.json's statistic; `note` is added to the estimate's own."""
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


def point_estimate(value: float, patients: Sequence[str], num_cases: int, note: str) -> Estimate:
    """Make an estimate without an interval; of NaN where the value is undefined."""
    return Estimate(value, num_cases, count_patients(patients, num_cases), note=note)


def count_patients(patients: Sequence[str], num_cases: int) -> int | None:
    """Count the patients; None if there are cases without patients."""
    return len(set(patients)) if len(patients) or not num_cases else None


def reason_without_interval(patients: Sequence[str], num_cases: int) -> str:
    """Return the reason why these patients have no interval; empty if they have one."""
    number = count_patients(patients, num_cases)
    if number is None:
        return UNKNOWN
    if number < MIN_PATIENTS:
        return f"No interval: {number} patients, fewer than {MIN_PATIENTS}."
    return ""


def without_interval(
    values: Floats, patients: Sequence[str], statistic: Callable[[Floats], np.floating[Any]], absent: str
) -> Estimate | None:
    """Return the estimate without value, or without interval for lack of patients; None if there can be one.

    Args:
        values: [N], finite.
        patients: The patient of each; empty where patients are not known.
        statistic: Computes the value.
        absent: The note of an estimate without value.
    """
    if not len(values):
        return point_estimate(math.nan, patients, 0, absent)
    reason = reason_without_interval(patients, len(values))
    return point_estimate(float(statistic(values)), patients, len(values), reason) if reason else None


def subset(patients: Sequence[str], mask: NDArray[np.bool_]) -> list[str]:
    """Return the patients of the selected cases; empty if patients are not known."""
    return [patient for patient, inside in zip(patients, mask, strict=True) if inside] if len(patients) else []


def finite(values: Floats, patients: Sequence[str]) -> tuple[Floats, list[str]]:
    """Return the values that are not NaN, and their patients.

    Raises:
        ValueError: A value is infinite; replace it by a finite one, such as the image's diagonal.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if np.isinf(numbers).any():
        raise ValueError("infinite values have no mean or median; replace them by the worst finite value")
    defined = np.isfinite(numbers)
    return numbers[defined], subset(patients, defined)


def index_patients(patients: Sequence[str]) -> tuple[int, Indices]:
    """Return the number P of patients, and each case's patient as an index below P."""
    names, of_case = np.unique(np.asarray(patients), return_inverse=True)
    return len(names), of_case


def totals(values: Any, of_case: Indices, num_patients: int) -> Floats:
    """Sum each patient's cases [P]."""
    sums: Floats = np.bincount(of_case, values, minlength=num_patients).astype(np.float64)
    return sums


def student_quantile(degrees: float) -> float:
    """Return Student's quantile of the two-sided interval."""
    return float(stdtrit(degrees, UPPER))


def make_interval(lower: float, upper: float, method: str) -> Interval:
    """Make an interval at `LEVEL`."""
    return Interval(lower=float(lower), upper=float(upper), level=LEVEL, method=method)
