"""Means over cases: the studentised bootstrap over patients.

Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 12.5; for skewed values it errs as often on both
sides, which Student's t and the percentile bootstrap don't (Hall 1988, https://doi.org/10.1214/aos/1176350933). The
mean is a ratio of sums over patients, its standard error the linearised one (Cochran 1977, Sampling Techniques, 6.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medloop.documents.evaluation import Interval
from medloop.evaluation.intervals.bootstrap import NUM_DRAWS, draws
from medloop.evaluation.intervals.estimate import (
    EQUAL,
    LEVEL,
    Estimate,
    Floats,
    finite,
    index_patients,
    make_interval,
    student_quantile,
    totals,
    without_interval,
)
from medloop.evaluation.intervals.proportions import wilson

METHOD = f"studentised bootstrap over patients, {NUM_DRAWS} draws"
STUDENT = "Student's t over patients (too few of them differ for a bootstrap)"
WILSON = "Wilson, as if patients succeeded or failed (all values are equal)"
_NOISE = 1e-9
"""Standard errors of draws below this share of the data's are rounding: the draw's values are all equal."""


def mean(values: Floats, patients: Sequence[str], *, shares: bool = False, seed: int = 0) -> Estimate:
    """Estimate the mean over cases; those without a value (NaN) are left out.

    Args:
        values: [N], finite or NaN.
        patients: The patient of each; empty where patients are not known.
        shares: Values are between 0 and 1, as Dice. No interval is wider then than Wilson's for as many patients that
            succeed or fail, whose variance is the largest that such values with this mean can have.
        seed: Seed of the draws.

    Returns:
        Undefined with no value; without an interval under 10 patients or where they are not known.

    Raises:
        ValueError: A value is infinite.
    """
    defined, defined_patients = finite(values, patients)
    if plain := without_interval(defined, defined_patients, np.mean, "No case with a value."):
        return plain
    centre = float(defined.mean())
    number, of_case = index_patients(defined_patients)
    sums = np.stack([totals(defined - centre, of_case, number), totals(None, of_case, number)])
    error = _standard_error(sums)
    interval = _studentised(centre, error, sums, seed)
    if shares:
        interval = _within_wilson(interval, min(max(centre, 0.0), 1.0), sums[1])
    return Estimate(centre, len(defined), number, error, interval, "" if interval else EQUAL)


def mean_of_shares(values: Floats, patients: Sequence[str]) -> Estimate:
    """Estimate the mean of values between 0 and 1."""
    return mean(values, patients, shares=True)


def _standard_error(sums: Floats) -> float:
    """Compute the standard error of the ratio of sums [2, P]: residuals, and cases."""
    number = sums.shape[1]
    return math.sqrt(number / (number - 1) * float((sums[0] ** 2).sum())) / float(sums[1].sum())


def _studentised(centre: float, error: float, sums: Floats, seed: int) -> Interval | None:
    """Compute the interval; None if all patients' residuals are 0."""
    number = sums.shape[1]
    if error <= _NOISE * abs(centre) or error == 0:
        return None
    ratios = np.sort(np.concatenate([_ratios(weights, sums, error) for weights in draws(number, number, seed)]))
    tail = round(len(ratios) * (1 - LEVEL) / 2)
    low, high = float(ratios[tail]), float(ratios[-1 - tail])
    if not math.isfinite(low) or not math.isfinite(high):
        quantile = student_quantile(number - 1)
        return make_interval(centre - quantile * error, centre + quantile * error, STUDENT)
    return make_interval(centre - high * error, centre - low * error, METHOD)


def _ratios(weights: Floats, sums: Floats, error: float) -> Floats:
    """Divide each draw's deviation from the mean by its own standard error [b]; infinite for an error of 0."""
    residuals, counts = sums
    number = len(counts)
    moments = np.stack([residuals, counts, residuals**2, residuals * counts, counts**2], axis=1)
    total, cases, squares, products, sizes = (weights @ moments).T
    change = total / cases
    variance = np.maximum(squares - 2 * change * products + change**2 * sizes, 0)
    errors = np.sqrt(variance * number / (number - 1)) / cases
    ratios: Floats = np.where(change == 0, 0.0, np.copysign(np.inf, change))
    np.divide(change, errors, out=ratios, where=errors > _NOISE * error)
    return ratios


def _within_wilson(interval: Interval | None, centre: float, counts: Floats) -> Interval:
    """Cut the interval to Wilson's at as many patients, weighted by their cases (Kish's effective number)."""
    number = float(counts.sum() ** 2 / (counts**2).sum())
    bounds = wilson(centre, number, student_quantile(len(counts) - 1))
    if interval is None:
        return make_interval(*bounds, WILSON)
    return interval.model_copy(
        update={"lower": max(interval.lower, bounds[0]), "upper": min(interval.upper, bounds[1])}
    )
