"""Macro AUROC of the validation split, by scikit-learn; an evaluation's has an interval (`medloop.evaluation`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from medloop.imaging.metrics import nan_mean


def macro_auroc(truth: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Mean over classes of the AUROC of one class against the rest, over the classes with cases on both sides.

    Args:
        truth: [N] class indices.
        probabilities: [N, C].

    Returns:
        NaN where all cases are of one class.
    """
    sides = [(truth == k, probabilities[:, k]) for k in range(probabilities.shape[1])]
    areas = [np.nan if side.all() or not side.any() else roc_auc_score(side, scores) for side, scores in sides]
    return float(nan_mean(np.array(areas)))
