"""Proportions and medians: Wilson's score interval, its sample size corrected for cases that share a patient.

Wilson 1927, https://doi.org/10.2307/2276774. The effective number of cases is the number over the design effect, the
ratio estimator's variance over clusters against the binomial one: Kish 1965, Survey Sampling; Rao and Scott 1992,
https://doi.org/10.2307/2532311. Franco et al. 2019 compare such intervals, https://doi.org/10.1093/jssam/smy019.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medloop.evaluation.intervals.estimate import (
    Estimate,
    Floats,
    finite,
    index_patients,
    make_interval,
    student_quantile,
    totals,
    without_interval,
)

METHOD = "Wilson, effective number of cases by the patients' design effect"
MEDIAN_METHOD = "order statistics (Woodruff), effective number of cases by the patients' design effect"


def proportion(hits: Sequence[bool] | Floats, patients: Sequence[str]) -> Estimate:
    """Estimate the share of cases (or lesions) that are hits.

    Args:
        hits: [N], 0 or 1.
        patients: The patient of each; empty where patients are not known.

    Returns:
        Undefined with no case; without an interval under 10 patients or where they are not known.
    """
    values = np.asarray(hits, dtype=np.float64)
    if plain := without_interval(values, patients, np.mean, "No case to count."):
        return plain
    share = float(values.mean())
    number, of_case = index_patients(patients)
    effective = effective_number(values - share, share, of_case, number)
    lower, upper = wilson(share, effective, student_quantile(number - 1))
    error = math.sqrt(share * (1 - share) / effective)
    return Estimate(share, len(values), number, error, make_interval(lower, upper, METHOD))


def median(values: Floats, patients: Sequence[str]) -> Estimate:
    """Estimate the median over cases; those without a value (NaN) are left out.

    The bounds are the values at the ends of Wilson's interval for the share below (Woodruff 1952,
    https://doi.org/10.2307/2280781). With one case a patient they are order statistics, as in the binomial interval for
    a median. The value of a failure must be finite: the image's diagonal replaces an infinite distance.

    Args:
        values: [N], NaN where undefined.
        patients: The patient of each; empty where patients are not known.

    Returns:
        Undefined with no value; without an interval under 10 patients or where they are not known.

    Raises:
        ValueError: A value is infinite.
    """
    defined, defined_patients = finite(values, patients)
    if plain := without_interval(defined, defined_patients, np.median, "No case with a value."):
        return plain
    middle = float(np.median(defined))
    number, of_case = index_patients(defined_patients)
    below = (defined < middle) + 0.5 * (defined == middle)
    effective = effective_number(below - 0.5, 0.5, of_case, number)
    quantile = student_quantile(number - 1)
    # The interval of a share of a half is symmetric, and so are the ranks of the bounds.
    rank = math.floor(len(defined) * wilson(0.5, effective, quantile)[0])
    lower, upper = np.sort(defined)[[rank, len(defined) - 1 - rank]]
    error = float(upper - lower) / (2 * quantile)
    return Estimate(middle, len(defined), number, error, make_interval(lower, upper, MEDIAN_METHOD))


def effective_number(residuals: Floats, share: float, of_case: np.ndarray, num_patients: int) -> float:
    """Compute the number of unrelated cases that are as much evidence as these.

    With a share of 0 or 1 no design effect can be seen: patients count, as if the cases of each were one. The design
    effect is at least 1: a smaller one is more often chance than truth.
    """
    binomial = share * (1 - share) * len(residuals)
    if binomial <= 0:
        return float(num_patients)
    clustered = float((totals(residuals, of_case, num_patients) ** 2).sum())
    return len(residuals) / max(1.0, clustered / binomial)


def wilson(share: float, number: float, quantile: float) -> tuple[float, float]:
    """Compute Wilson's score interval of a share among `number` unrelated cases."""
    square = quantile**2 / number
    centre = (share + square / 2) / (1 + square)
    half = quantile / (1 + square) * math.sqrt(share * (1 - share) / number + square / (4 * number))
    # At 0 and 1 the bounds are exactly these, except for rounding.
    lower = 0.0 if share == 0 else max(0.0, centre - half)
    upper = 1.0 if share == 1 else min(1.0, centre + half)
    return lower, upper
