"""Calibration of a classifier's probabilities: reliability bins and the expected calibration error."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medloop.documents.evaluation import ReliabilityBin
from medloop.evaluation.intervals.estimate import Estimate, Floats, point_estimate
from medloop.evaluation.scored_cases import Integers

NUM_BINS = 15
_NUM_DRAWS = 500


def reliability_bins(truth: Integers, probabilities: Floats) -> list[ReliabilityBin]:
    """Count cases by the highest probability, in 15 bins of equal width (Guo et al. 2017, arXiv:1706.04599).

    A bin contains its upper bound, not its lower one, as there; empty bins are left out.

    Args:
        truth: [N] class indices.
        probabilities: [N, C].
    """
    top, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    members = _members(top)
    return [
        ReliabilityBin(
            lower=b / NUM_BINS,
            upper=(b + 1) / NUM_BINS,
            mean_probability=float(top[members == b].mean()),
            frequency=float(right[members == b].mean()),
            num_cases=int((members == b).sum()),
        )
        for b in np.unique(members).tolist()
    ]


def calibration_error(truth: Integers, probabilities: Floats, patients: Sequence[str]) -> Estimate:
    """Compute the ECE: the mean over cases of the gap between mean probability and frequency in their bin.

    It has no interval: chance makes gaps, so that it is above the truth in small samples, and in a resample above the
    sample's. The note has the value that perfect probabilities would have by chance.
    """
    if not len(truth):
        return point_estimate(math.nan, patients, 0, "No case.")
    top, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    members = np.eye(NUM_BINS)[_members(top)]
    value = float(np.abs((right - top) @ members).sum() / len(top))
    chance = np.random.default_rng(0)
    drawn = [np.abs(((chance.random(len(top)) < top) - top) @ members).sum() / len(top) for _ in range(_NUM_DRAWS)]
    note = f"No interval: biased upwards in small samples; perfect probabilities would have {np.mean(drawn):.3f} here."
    return point_estimate(value, patients, len(truth), note)


def _members(top: Floats) -> Integers:
    members: Integers = np.clip(np.ceil(top * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    return members
