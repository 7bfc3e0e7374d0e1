"""Power of the gate: the chance that a model as good as the champion passes, by the number of test patients.

The gate requires that Student's one-sided lower bound of the difference is at least -margin (or Hall's, if lower, which
the power ignores); at a true difference of 0 that statistic has a noncentral t distribution.
"""

from __future__ import annotations

import math

from scipy.special import stdtrit
from scipy.stats import nct

CONFIDENCE = 0.95
ENOUGH = 0.8
MIN_COMPARED = 20
"""Test patients that a comparison of two models needs."""
MAX_PATIENTS = 1_000_000
_CERTAIN = 30.0
"""A noncentrality beyond which the distribution's tail is 0 in float64."""


def power(spread: float, num_patients: int, margin: float) -> float:
    """Compute the chance to pass at a true difference of 0.

    Args:
        spread: Standard deviation of the patients' differences.
        num_patients: At least 2.
        margin: At least 0.
    """
    if spread <= 0:
        return 1.0
    shift = margin * math.sqrt(num_patients) / spread
    if shift > _CERTAIN:
        return 1.0
    chance = float(nct.sf(stdtrit(num_patients - 1, CONFIDENCE), num_patients - 1, shift))
    return min(max(chance, 0.0), 1.0)


def patients_needed(spread: float, margin: float, minimum: int) -> int | None:
    """Return the smallest number of patients from `minimum` on with a power of 0.8; None if a million are too few."""
    if spread > 0 and power(spread, MAX_PATIENTS, margin) < ENOUGH:
        return None
    low, high = minimum - 1, minimum
    while power(spread, high, margin) < ENOUGH:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(spread, middle, margin) >= ENOUGH else (middle, high)
    return high
