"""How likely a model that is exactly as good as the champion passes the gate, by the number of test patients.

The gate asks that Student's one-sided lower bound of the difference be at least -margin (or Hall's, where lower, which
this leaves out); at a true difference of 0 that statistic has a noncentral t distribution.
"""

from __future__ import annotations

import math

from scipy.special import stdtrit
from scipy.stats import nct

CONFIDENCE = 0.95
ENOUGH = 0.8
MIN_COMPARED = 20
"""Test patients with which two models can be compared."""
MAX_PATIENTS = 1_000_000
_CERTAIN = 30.0
"""A noncentrality beyond which the distribution's tail can't be told from 0."""


def power(spread: float, num_patients: int, margin: float) -> float:
    """The chance of passing at a true difference of 0.

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
    found = float(nct.sf(stdtrit(num_patients - 1, CONFIDENCE), num_patients - 1, shift))
    return min(max(found, 0.0), 1.0)


def patients_needed(spread: float, margin: float, least: int) -> int | None:
    """The fewest patients, `least` or more, with a power of 0.8; None where a million are too few, or margin is 0."""
    if spread > 0 and power(spread, MAX_PATIENTS, margin) < ENOUGH:
        return None
    low, high = least - 1, least
    while power(spread, high, margin) < ENOUGH:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(spread, middle, margin) >= ENOUGH else (middle, high)
    return high
