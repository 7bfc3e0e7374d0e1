"""Agreement of volumes as in Bland and Altman 1986 (https://doi.org/10.1016/S0140-6736(86)90837-8).

The bias, and the limits that 95 of 100 differences are expected between. Their standard deviation is over cases,
several of one patient included.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medloop.documents.evaluation import VolumeAgreement
from medloop.evaluation.intervals.estimate import Estimate
from medloop.evaluation.scored_cases import ScoredVolumes
from medloop.evaluation.volume_metrics import volume_errors

LIMIT = 1.96
"""Standard deviations between the bias and a limit of agreement."""


def agreements(scored: ScoredVolumes, bias: Mapping[str, Estimate]) -> list[VolumeAgreement]:
    """Agreement by class; without those that fewer than two cases hold: one difference has no spread.

    Args:
        scored: N cases.
        bias: The volume error of each class.
    """
    rows = []
    for k, name in enumerate(scored.classes):
        differences, truth = volume_errors(scored)[:, k], scored.table("volume_truth")[:, k]
        defined = np.isfinite(differences)
        if defined.sum() < 2:
            continue
        centre, half = bias[name].value, LIMIT * float(differences[defined].std(ddof=1))
        agreement = VolumeAgreement(
            class_name=name,
            unit=scored.volume_unit,
            bias=centre,
            interval=bias[name].interval,
            lower_limit=centre - half,
            upper_limit=centre + half,
            mean_truth=float(truth[defined].mean()),
            num_cases=int(defined.sum()),
        )
        rows.append(agreement)
    return rows
