"""AUROC: DeLong's variance over patients, on the logit scale.

DeLong et al. 1988, https://doi.org/10.2307/2531595; clusters: Obuchowski 1997, https://doi.org/10.2307/2533958; logit:
Pepe 2003, The Statistical Evaluation of Medical Tests, section 5.2. Student's quantile has Satterthwaite's degrees of
freedom, from the variance that each class's patients bring. A perfect ranking shows no variance: its bound is
Newcombe's (2006, method 5, https://doi.org/10.1002/sim.2324), and no other ranking's bound is nearer to 1 than that
one, or nearer to 0 than that of a wholly reversed ranking.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

from medloop.evaluation.intervals.estimate import (
    NORMAL_QUANTILE,
    Estimate,
    Floats,
    Indices,
    index_patients,
    make_interval,
    point_estimate,
    reason_without_interval,
    student_quantile,
)

METHOD = "DeLong over patients, logit scale"
MIN_ON_A_SIDE = 2
"""Patients with a class, and with others: one patient has no variance."""
_TINY = 1e-12
Mask = NDArray[np.bool_]
MaskedScores = tuple[Mask, Floats]


@dataclass(frozen=True)
class ClassAuroc:
    """The AUROC of one class against the rest."""

    area: float
    influence: Floats
    """[2, P]: what each patient's cases with the class, and those without, add to the area's error; the squares of the
    patients' sums add up to the variance. NaN if a side has a single patient."""
    sides: tuple[int, int]
    """Patients with the class, and with others."""


def class_auroc(positive: Mask, scores: Floats, of_case: Indices, num_patients: int) -> ClassAuroc | None:
    """Compute a class's AUROC from DeLong's placements, summed over each patient's cases.

    Args:
        positive: [N], of the class.
        scores: [N].
        of_case: [N], each case's patient as an index below P.
        num_patients: P.

    Returns:
        None where a side is empty.
    """
    if positive.all() or not positive.any():
        return None
    above = share_below(scores[positive], scores[~positive])
    below = 1 - share_below(scores[~positive], scores[positive])
    area = float(above.mean())
    influence = np.full((2, num_patients), np.nan)
    sides = (len(np.unique(of_case[positive])), len(np.unique(of_case[~positive])))
    for row, (mask, placements) in enumerate(((positive, above), (~positive, below))):
        if sides[row] >= MIN_ON_A_SIDE:
            part = np.bincount(of_case[mask], placements - area, minlength=num_patients) / mask.sum()
            influence[row] = part * math.sqrt(sides[row] / (sides[row] - 1))
    return ClassAuroc(area, influence, sides)


def share_below(scores: Floats, references: Floats) -> Floats:
    """Return for each score the share of the references below it, ties counted half."""
    ordered = np.sort(references)
    ranks = np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")
    shares: Floats = ranks / (2 * len(references))
    return shares


def mean_auroc(sides: Sequence[MaskedScores], patients: Sequence[str]) -> Estimate:
    """Estimate the mean over classes of the chance that a case of the class scores above another, ties counted half.

    Args:
        sides: Each class against the rest: which cases [N] are of it, and their scores [N]. Classes that have all cases
            or none are left out.
        patients: The patient of each case; empty where patients are not known.

    Returns:
        Undefined where no class is left; without an interval under 10 patients, with a single patient on a side, or
        where patients are not known.
    """
    num_cases = len(sides[0][0])
    number, of_case = index_patients(patients or [""] * num_cases)
    aurocs = [auroc for auroc in (class_auroc(*side, of_case, number) for side in sides) if auroc is not None]
    if not aurocs:
        absent = "The cases are of one class." if len(sides) > 1 else "No case of the class, or none of another."
        return point_estimate(math.nan, patients, num_cases, absent)
    area, reason = float(np.mean([auroc.area for auroc in aurocs])), reason_without_interval(patients, num_cases)
    if not reason and min(min(auroc.sides) for auroc in aurocs) < MIN_ON_A_SIDE:
        reason = "No interval: a class has cases of a single patient, or only one patient has others."
    if reason:
        return point_estimate(area, patients, num_cases, reason)
    influence = np.mean([auroc.influence.sum(axis=0) for auroc in aurocs], axis=0)
    error = math.sqrt(float((influence**2).sum()))
    smallest = min((auroc.sides for auroc in aurocs), key=min)
    bounds = _bounds(area, error, min(_degrees(auroc) for auroc in aurocs), smallest)
    return Estimate(area, num_cases, number, error, make_interval(*bounds, METHOD))


def _degrees(auroc: ClassAuroc) -> float:
    """Compute Satterthwaite's degrees of freedom, from the two sides' variances."""
    variances, spare = (auroc.influence**2).sum(axis=1), np.array(auroc.sides) - 1
    if not variances.any():
        return float(spare.min())
    return float(variances.sum() ** 2 / (variances**2 / spare).sum())


def _bounds(area: float, error: float, degrees: float, sides: tuple[int, int]) -> tuple[float, float]:
    """Compute the bounds: Newcombe's for an area of 0 or 1, else the wider of DeLong's and Newcombe's limits."""
    if error <= 0 or not 0 < area < 1:
        return newcombe(area, sides)
    half = student_quantile(degrees) * error / (area * (1 - area))
    bounds = expit(logit(area) - half), expit(logit(area) + half)
    return min(float(bounds[0]), newcombe(1.0, sides)[0]), max(float(bounds[1]), newcombe(0.0, sides)[1])


def newcombe(area: float, sides: tuple[int, int], quantile: float = NORMAL_QUANTILE) -> tuple[float, float]:
    """Compute Newcombe's bounds (method 5): the areas with `area` at `quantile` standard errors (Hanley and McNeil's).

    Args:
        area: AUROC.
        sides: Unrelated cases of the class, and others.
        quantile: Of the normal distribution.
    """

    def excess(bound: float) -> float:
        return (area - bound) ** 2 - quantile**2 * _hanley_variance(bound, sides)

    lower = 0.0 if area <= _TINY else float(brentq(excess, _TINY, area - _TINY))
    upper = 1.0 if area >= 1 - _TINY else float(brentq(excess, area + _TINY, 1 - _TINY))
    return lower, upper


def _hanley_variance(area: float, sides: tuple[int, int]) -> float:
    """Hanley and McNeil's, with both sides' numbers averaged, as Newcombe has it."""
    spare = (sides[0] + sides[1]) / 2 - 1
    excess = spare * (1 - area) / (2 - area) + spare * area / (1 + area)
    return area * (1 - area) * (1 + excess) / (sides[0] * sides[1])
