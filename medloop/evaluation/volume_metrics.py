"""Functions of a segmentation model's metrics, which the rows of `medloop.evaluation.metrics` name.

Each takes the scored volumes and a structure's index, None over all structures. What is measured in one case is in
`medloop.imaging.metrics`; here it becomes one value a case (or a lesion), with the cases that are left out or failed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from medloop.evaluation.intervals.estimate import Estimate, Floats, Sample, point_estimate
from medloop.evaluation.scored_cases import ScoredVolumes
from medloop.imaging.metrics import nan_mean


def mean_foreground_dice(scored: ScoredVolumes, _: int | None) -> Sample:
    """Compute the mean Dice of each case; NaN where a case holds no structure in truth or prediction."""
    means = nan_mean(scored.dice)
    return Sample(means, scored.patients, int(np.isnan(means).sum()), int(scored.failed.any(axis=1).sum()))


def by_case(field: str) -> Callable[[ScoredVolumes, int], Sample]:
    """Make the function of a metric that is one number of `ClassScores` a case."""
    return lambda scored, k: scored.sample(scored.table(field)[:, k], k)


def volume_error(scored: ScoredVolumes, k: int) -> Sample:
    """Compute the predicted minus the true volume of each case."""
    return scored.sample(volume_errors(scored)[:, k], k)


def volume_errors(scored: ScoredVolumes) -> Floats:
    """Compute the predicted minus the true volume [N, K]; NaN where a class is in neither."""
    errors: Floats = scored.table("volume_predicted") - scored.table("volume_truth")
    return np.where(np.isnan(scored.dice), np.nan, errors)


def lesion_sensitivity(scored: ScoredVolumes, k: int) -> Sample:
    """Return 1 for each true lesion that a predicted voxel touches, else 0; cases without a lesion are left out."""
    num_true, num_missed = (scored.lesion_counts(name, k) for name in ("num_true", "num_missed"))
    hits = [np.arange(true) >= missed for true, missed in zip(num_true, num_missed, strict=True)]
    patients = np.repeat(np.asarray(scored.patients), num_true).tolist() if len(scored.patients) else []
    return Sample(np.concatenate(hits), patients, int((num_true == 0).sum()))


def false_lesions(scored: ScoredVolumes, k: int) -> Sample:
    """Count the predicted lesions of each case that touch no true voxel."""
    return Sample(scored.lesion_counts("num_false", k).astype(np.float64), scored.patients)


def failures(scored: ScoredVolumes, k: int) -> Estimate:
    """Count the cases with the structure in only one of truth and prediction."""
    return point_estimate(float(scored.failed[:, k].sum()), scored.patients, len(scored.cases), "")


def tolerance_note(scored: ScoredVolumes) -> str:
    """Write the tolerance of the surface Dice, or the reason why there is none."""
    if math.isnan(scored.tolerance):
        return "Not computed: not every header states a unit of lengths (evaluate.length_unit)."
    return f"Tolerance: {scored.tolerance:g} mm."
