"""Medians: Woodruff's interval, the values at the ends of an interval for the share below.

Woodruff 1952, https://doi.org/10.2307/2280781. The share's interval is Wilson's, corrected for cases that share a
patient; with one case a patient the bounds are order statistics, as in the binomial interval for a median.
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
    without_interval,
)
from medloop.evaluation.intervals.proportions import effective_number, wilson

METHOD = "order statistics (Woodruff), effective number of cases by the patients' design effect"


def median(values: Floats, patients: Sequence[str]) -> Estimate:
    """Estimate the median over cases; those without a value (NaN) are left out.

    The value of a failure must be finite: the image's diagonal replaces an infinite distance.

    Args:
        values: [N], NaN where undefined.
        patients: The patient of each; empty where patients are not known.

    Returns:
        Undefined with no value; without an interval under 10 patients or where they are not known.

    Raises:
        ValueError: A value is infinite.
    """
    found, owners = finite(values, patients)
    if plain := without_interval(found, owners, np.median, "No case with a value."):
        return plain
    middle = float(np.median(found))
    number, of_case = index_patients(owners)
    below = (found < middle) + 0.5 * (found == middle)
    effective = effective_number(below - 0.5, 0.5, of_case, number)
    quantile = student_quantile(number - 1)
    # The interval of a share of a half is symmetric, and so are the ranks of the bounds.
    rank = math.floor(len(found) * wilson(0.5, effective, quantile)[0])
    lower, upper = np.sort(found)[[rank, len(found) - 1 - rank]]
    error = float(upper - lower) / (2 * quantile)
    return Estimate(middle, len(found), number, error, make_interval(lower, upper, METHOD))
