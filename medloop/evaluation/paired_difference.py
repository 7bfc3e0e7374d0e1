"""The paired difference of two models over patients, and its one-sided lower bound.

Each patient gets one value, and the difference is the values' mean. For Dice it is the difference of the patient's two
means over cases. For macro AUROC it is a pseudo-value by DeLong's placements, summed over each patient's cases
(DeLong et al. 1988, https://doi.org/10.2307/2531595; clusters: Obuchowski 1997, https://doi.org/10.2307/2533958).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from medloop.evaluation.intervals.aurocs import MIN_ON_A_SIDE, class_auroc
from medloop.evaluation.intervals.estimate import Floats, index_patients, totals
from medloop.evaluation.power import CONFIDENCE
from medloop.evaluation.scored_cases import Integers
from medloop.imaging.metrics import nan_mean


@dataclass(frozen=True)
class Paired:
    """Two models on the same patients."""

    candidate: float
    """The candidate's score."""
    model: float
    """The other model's score."""
    values: Floats
    """One value a patient [P]; their mean is the difference."""
    per_class: dict[str, float]
    """Difference by class, where it is defined."""

    @property
    def difference(self) -> float:
        """The candidate's score minus the other model's."""
        return self.candidate - self.model


def lower_bound(values: Floats, confidence: float = CONFIDENCE) -> float:
    """Compute a one-sided lower bound of the mean: the lower of Student's and Hall's.

    Hall's transformation corrects Student's t for skewness (Hall 1992, https://doi.org/10.1111/j.2517-6161.1992.tb01873.x).
    Rare, grave failures of the candidate skew its differences to the left, where Student's bound is too high. Hall's
    is not used if it is above Student's. `benchmarks/gate_error.py` compares the methods.

    Args:
        values: [P], P at least 2.
        confidence: Level of the bound.
    """
    return min(student_bound(values, confidence), hall_bound(values, confidence))


def student_bound(values: Floats, confidence: float = CONFIDENCE) -> float:
    """Compute Student's lower bound of the mean of values [P]."""
    number = len(values)
    quantile = float(stdtrit(number - 1, confidence))
    return float(values.mean() - quantile * values.std(ddof=1) / math.sqrt(number))


def hall_bound(values: Floats, confidence: float = CONFIDENCE) -> float:
    """Compute Hall's lower bound of the mean of values [P], with Student's quantile instead of the normal one."""
    number, deviation = len(values), float(values.std(ddof=1))
    # The skewness of values that differ only by rounding is noise.
    if number < 3 or deviation <= 1e-12:
        return student_bound(values, confidence)
    centred = values - values.mean()
    skewness = float(np.mean(centred**3) / np.mean(centred**2) ** 1.5)
    if abs(skewness) < 1e-6:
        return student_bound(values, confidence)
    root, quantile = math.sqrt(number), float(stdtrit(number - 1, confidence))
    inner = 1 + skewness * (quantile / root - skewness / (6 * number))
    steps = 3 * root / skewness * (float(np.cbrt(inner)) - 1)
    return float(values.mean() - steps * deviation / root)


def pair_dice(candidate: Floats, model: Floats, patients: Sequence[str], classes: Sequence[str]) -> Paired | None:
    """Compare Dice [N, K] of N cases and K structures, NaN where truth and prediction are both empty.

    If the truth does not have the structure and only one of the models predicts it, that model has 0 and the other 1.

    Returns:
        None where fewer than 2 patients have a structure in truth or prediction.
    """
    candidate_dice, model_dice = _credited(candidate, model), _credited(model, candidate)
    means = [_patient_means(nan_mean(table), patients) for table in (candidate_dice, model_dice)]
    defined = np.isfinite(means[0])
    if defined.sum() < 2:
        return None
    per_class = {}
    for k, name in enumerate(classes):
        change = _patient_means(candidate_dice[:, k] - model_dice[:, k], patients)
        if np.isfinite(change).any():
            per_class[name] = float(np.nanmean(change))
    values = (means[0] - means[1])[defined]
    return Paired(float(means[0][defined].mean()), float(means[1][defined].mean()), values, per_class)


def pair_auroc(
    truth: Integers, candidate: Floats, model: Floats, patients: Sequence[str], classes: Sequence[str]
) -> Paired | None:
    """Compare macro AUROC.

    A class counts if at least 2 patients have cases of it and 2 have others: one patient has no variance.

    Args:
        truth: [N] class indices.
        candidate: [N, C] probabilities.
        model: [N, C], the other model's.
        patients: The patient of each case.
        classes: C names.

    Returns:
        None where no class counts.
    """
    number, of_case = index_patients(patients)
    scores, changes, counted = [], [], []
    for c in range(len(classes)):
        positive = truth == c
        if min(len(set(of_case[positive])), len(set(of_case[~positive]))) < MIN_ON_A_SIDE:
            continue
        pair = [class_auroc(positive, table[:, c], of_case, number) for table in (candidate, model)]
        candidate_auroc, model_auroc = (auroc for auroc in pair if auroc is not None)
        counted.append(classes[c])
        scores.append((candidate_auroc.area, model_auroc.area))
        changes.append((candidate_auroc.influence - model_auroc.influence).sum(axis=0))
    if not counted:
        return None
    mean, mean_model = np.mean(scores, axis=0)
    # Scaled so that the values' s^2 / P is the variance, the sum of squared influences.
    scale = math.sqrt(number * (number - 1))
    values = mean - mean_model + scale * np.mean(changes, axis=0)
    per_class = {name: float(a - b) for name, (a, b) in zip(counted, scores, strict=True)}
    return Paired(float(mean), float(mean_model), values, per_class)


def _credited(dice: Floats, other_dice: Floats) -> Floats:
    """Replace NaN by 1 where only the other model predicts a structure that the truth does not have."""
    return np.where(np.isnan(dice) & np.isfinite(other_dice), 1.0, dice)


def _patient_means(values: Floats, patients: Sequence[str]) -> Floats:
    """Average each patient's finite values [P], patients sorted; NaN without any."""
    number, of_case = index_patients(patients)
    finite = np.isfinite(values)
    counts = totals(None, of_case[finite], number)
    means: Floats = np.full(number, np.nan)
    np.divide(totals(values[finite], of_case[finite], number), counts, out=means, where=counts > 0)
    return means
