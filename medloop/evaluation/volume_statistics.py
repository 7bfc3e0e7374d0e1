"""Statistics of a segmentation model with intervals over patients, for evaluation.json.

Volumes agree as in Bland and Altman 1986 (https://doi.org/10.1016/S0140-6736(86)90837-8): the bias, and the limits
between which 95 of 100 differences lie. Their standard deviation is over cases, several of one patient included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medloop.documents.evaluation import Lesions, Statistic, VolumeAgreement
from medloop.evaluation.intervals.estimate import Estimate
from medloop.evaluation.intervals.means import mean
from medloop.evaluation.intervals.medians import median
from medloop.evaluation.intervals.proportions import proportion
from medloop.evaluation.outcome import ScoredVolumes
from medloop.imaging.scores import SEGMENTATION_SCORE, case_means

LIMIT = 1.96
"""Standard deviations between the bias and a limit of agreement."""


LengthOrVolume = Literal["", "mm", "voxels", "ml"]


class Counts(NamedTuple):
    """Cases of a statistic that are left out, and that count as worst."""

    excluded: int = 0
    failures: int = 0


ALL: Final = Counts()
"""None left out, none failed."""


@dataclass(frozen=True)
class Measured:
    """A statistic, as evaluation.json and SageMaker's model quality metrics have it."""

    metric: str
    estimate: Estimate
    statistic: Statistic


def measure(scored: ScoredVolumes, patients: Sequence[str]) -> list[Measured]:
    """All statistics: the score, then those of each class.

    Args:
        scored: N cases.
        patients: Of the cases; empty where not known.
    """
    means, failed = case_means(scored.dice), scored.failed
    score = mean(means, patients, shares=True)
    counts = Counts(int(np.isnan(means).sum()), int(failed.any(axis=1).sum()))
    found = [_measured(SEGMENTATION_SCORE, score, SEGMENTATION_SCORE, counts=counts)]
    for k in range(len(scored.classes)):
        found += _agreement(scored, k, patients) + _lesions(scored, k, patients)
    return found


def agreements(scored: ScoredVolumes, measured: Sequence[Measured]) -> list[VolumeAgreement]:
    """Bland and Altman's, by class; without those that fewer than two cases hold: one difference has no spread."""
    bias = {found.statistic.class_name: found.estimate for found in measured if found.statistic.name == "volume_error"}
    found = []
    for k, name in enumerate(scored.classes):
        differences, truth = _volume_errors(scored)[:, k], scored.table("volume_truth")[:, k]
        kept = np.isfinite(differences)
        if kept.sum() < 2:
            continue
        centre, half = bias[name].value, LIMIT * float(differences[kept].std(ddof=1))
        agreement = VolumeAgreement(
            class_name=name,
            unit=scored.volume_unit,
            bias=centre,
            interval=bias[name].interval,
            lower_limit=centre - half,
            upper_limit=centre + half,
            mean_truth=float(truth[kept].mean()),
            num_cases=int(kept.sum()),
        )
        found.append(agreement)
    return found


def count_lesions(scored: ScoredVolumes) -> list[Lesions]:
    """Connected components of all cases, by class."""
    names = ("num_true", "num_missed", "num_predicted", "num_false")
    return [
        Lesions(class_name=name, **{count: int(_lesion_counts(scored, k, count).sum()) for count in names})
        for k, name in enumerate(scored.classes)
    ]


def _measured(
    metric: str,
    estimate: Estimate,
    name: str,
    class_name: str = "",
    *,
    unit: LengthOrVolume = "",
    counts: Counts = ALL,
    note: str = "",
) -> Measured:
    excluded, failures = counts
    statistic = estimate.statistic(name, class_name, unit=unit, num_excluded=excluded, num_failures=failures, note=note)
    return Measured(f"{metric}_{class_name}" if class_name else metric, estimate, statistic)


def _agreement(scored: ScoredVolumes, k: int, patients: Sequence[str]) -> list[Measured]:
    """Overlap, distances and volumes of a class; cases where neither truth nor prediction holds it are left out."""
    name, unit, dice = scored.classes[k], scored.unit, scored.dice[:, k]
    counts = Counts(int(np.isnan(dice).sum()), int(scored.failed[:, k].sum()))
    found = []
    for metric, field in (("hd95", "hd95"), ("asd", "average_surface_distance")):
        distance = median(scored.table(field)[:, k], patients)
        found.append(
            _measured(f"{metric}_{unit}", distance, field, name, unit=unit, counts=counts, note="Median over cases.")
        )
    for field, note in (("dice", ""), ("surface_dice", f"Tolerance: {scored.tolerance:g} {unit}.")):
        overlap = mean(scored.table(field)[:, k], patients, shares=True)
        found.append(_measured(field, overlap, field, name, counts=counts, note=note))
    volume, of = mean(_volume_errors(scored)[:, k], patients), scored.volume_unit
    note = "Predicted less true, mean over cases."
    return [*found, _measured(f"volume_error_{of}", volume, "volume_error", name, unit=of, counts=counts, note=note)]


def _lesions(scored: ScoredVolumes, k: int, patients: Sequence[str]) -> list[Measured]:
    """The share of true lesions that are touched, over lesions; and false lesions, over all cases."""
    name = scored.classes[k]
    num_true, num_missed, num_false = (
        _lesion_counts(scored, k, count) for count in ("num_true", "num_missed", "num_false")
    )
    hits = np.concatenate([np.arange(true) >= missed for true, missed in zip(num_true, num_missed, strict=True)])
    owners = np.repeat(np.asarray(patients), num_true).tolist() if len(patients) else []
    touched, false = proportion(hits, owners), mean(num_false.astype(np.float64), patients)
    without = Counts(int((num_true == 0).sum()))
    return [
        _measured("lesion_sensitivity", touched, "lesion_sensitivity", name, counts=without, note="Over lesions."),
        _measured("false_lesions", false, "false_lesions_per_case", name, note="Mean over cases."),
    ]


def _volume_errors(scored: ScoredVolumes) -> NDArray[np.float64]:
    """Predicted less true [N, K]; NaN where a class is in neither."""
    errors: NDArray[np.float64] = scored.table("volume_predicted") - scored.table("volume_truth")
    return np.where(np.isnan(scored.dice), math.nan, errors)


def _lesion_counts(scored: ScoredVolumes, k: int, name: str) -> NDArray[np.int64]:
    """[N]."""
    return np.array([getattr(case[k].lesions, name) for case in scored.scores], dtype=np.int64)
