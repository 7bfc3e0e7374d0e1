"""The bias-corrected and accelerated (BCa) bootstrap over patients, for any statistic of weighted cases.

Efron 1987, https://doi.org/10.1080/01621459.1987.10478410; the acceleration is the jackknife's, over patients. The
percentiles are expanded to Student's, as Hesterberg 2015 has it (https://doi.org/10.1080/00031305.2015.1089789):
without that intervals over 20 patients are too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from scipy.special import ndtr, ndtri

from medloop.evaluation.intervals.estimate import (
    EQUAL,
    Estimate,
    Floats,
    Indices,
    index_patients,
    make_interval,
    point_estimate,
    reason_without_interval,
    student_quantile,
)

Name = TypeVar("Name", bound=Hashable)
NUM_DRAWS = 2000
METHOD = f"BCa bootstrap over patients, {NUM_DRAWS} draws"
UNDEFINED = "No interval: too many draws of the patients leave it undefined."
ABSENT = "The test set leaves it undefined."
_MIN_DEFINED = 0.9
_MAX_GROUPS = 200
"""Maximum number of groups of patients that the jackknife leaves out, one at a time."""
_CHUNK_VALUES = 400_000
"""Weights at once: 3 MB, which fit into a processor's cache."""


def draws(num_patients: int, num_cases: int, seed: int = 0) -> Iterator[Floats]:
    """Draw patients with replacement, each with all of their cases.

    Yields:
        The number of times that each patient is drawn: [b, P], some draws at a time, `NUM_DRAWS` in all.
    """
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_VALUES // max(num_patients, num_cases))
    for start in range(0, NUM_DRAWS, chunk):
        size = min(chunk, NUM_DRAWS - start)
        drawn = generator.integers(num_patients, size=(size, num_patients))
        drawn += num_patients * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * num_patients)
        yield counts.reshape(size, num_patients).astype(np.float64)


def bca_bootstrap(
    statistic: Callable[[Floats], dict[Name, Floats]], num_cases: int, patients: Sequence[str], *, seed: int = 0
) -> dict[Name, Estimate]:
    """Estimate each statistic with its interval.

    Args:
        statistic: From weights [B, N] of the cases to each statistic's values [B]; NaN where a weighting leaves it
            undefined.
        num_cases: N.
        patients: The patient of each case; empty where patients are not known.
        seed: Of the draws.

    Returns:
        Name to estimate; without an interval under 10 patients, where patients are not known, where more than a tenth
        of the draws leave the statistic undefined, or where all draws give the same value.
    """
    values = {name: float(array[0]) for name, array in statistic(np.ones((1, num_cases))).items()}
    reason = reason_without_interval(patients, num_cases)
    if reason:
        return {name: point_estimate(value, patients, num_cases, reason) for name, value in values.items()}
    number, of_case = index_patients(patients)
    parts = [statistic(weights[:, of_case]) for weights in draws(number, num_cases, seed)]
    drawn = {name: np.concatenate([part[name] for part in parts]) for name in values}
    left_out = statistic(_jackknife(number)[:, of_case])
    return {name: _estimate(value, drawn[name], left_out[name], (num_cases, number)) for name, value in values.items()}


def _jackknife(number: int) -> Floats:
    """[G, P]: all patients but one, or but one group."""
    groups: Indices = np.arange(number) % min(number, _MAX_GROUPS)
    weights: Floats = (groups != np.arange(groups.max() + 1)[:, None]).astype(np.float64)
    return weights


def _estimate(value: float, drawn: Floats, left_out: Floats, sizes: tuple[int, int]) -> Estimate:
    num_cases, number = sizes
    defined = drawn[np.isfinite(drawn)]
    if not math.isfinite(value):
        return Estimate(value, num_cases, number, note=ABSENT)
    if len(defined) < _MIN_DEFINED * len(drawn):
        return Estimate(value, num_cases, number, note=UNDEFINED)
    error = float(defined.std(ddof=1))
    if np.ptp(defined) <= 1e-12:
        return Estimate(value, num_cases, number, note=EQUAL)
    levels = _levels(value, defined, left_out[np.isfinite(left_out)], number)
    lower, upper = np.quantile(defined, levels)
    return Estimate(value, num_cases, number, error, make_interval(min(lower, value), max(upper, value), METHOD))


def _levels(value: float, drawn: Floats, left_out: Floats, number: int) -> Floats:
    """Return the percentiles of the draws that bound the interval."""
    below = float((drawn < value).mean() + (drawn == value).mean() / 2)
    shift = float(ndtri(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn))))
    pulls = left_out.mean() - left_out if len(left_out) else np.zeros(1)
    scale = float((pulls**2).sum()) ** 1.5
    acceleration = float((pulls**3).sum()) / (6 * scale) if scale > 0 else 0.0
    expanded = student_quantile(number - 1) * math.sqrt(number / (number - 1))
    moved = shift + np.array([-expanded, expanded])
    levels: Floats = ndtr(shift + moved / np.maximum(1 - acceleration * moved, 0.05))
    return levels
