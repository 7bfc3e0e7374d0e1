"""A test set's metrics as one flat mapping, name to value, for either task.

A value that isn't defined (recall of a class that the test set lacks) is NaN here; evaluation.json leaves it out.
`classification_metrics` is scikit-learn's word. The `resampled_*` functions give the same metrics for many weightings
of the cases at once, which the bootstrap needs and scikit-learn can't do in reasonable time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Metrics = dict[str, float]
CLASSIFICATION_SCORE = "macro_auroc"
SEGMENTATION_SCORE = "mean_foreground_dice"


def classification_metrics(truth: Integers, probabilities: Floats, classes: Sequence[str]) -> Metrics:
    """Metrics of a classifier; the prediction is the most probable class.

    AUROC is one class against the rest; `macro_auroc` is the mean over the classes that have cases and other
    classes' cases in the test set, NaN where there is none.

    Args:
        truth: [N] class indices.
        probabilities: [N, C].
        classes: C names.

    Returns:
        accuracy, balanced_accuracy, macro_auroc, average_precision (its mean over the same classes), macro_f1,
        weighted_{precision,recall,f1} and, per class, {auroc,average_precision,precision,recall,f1}_CLASS.
    """
    predicted = probabilities.argmax(axis=1)
    labels = range(len(classes))
    metrics = {f"auroc_{name}": _auroc(truth == i, probabilities[:, i]) for i, name in enumerate(classes)}
    metrics |= {f"average_precision_{c}": _precision(truth == i, probabilities[:, i]) for i, c in enumerate(classes)}
    per_class = precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=np.nan)
    for kind, values in zip(("precision", "recall", "f1"), per_class[:3], strict=True):
        metrics |= {f"{kind}_{name}": float(value) for name, value in zip(classes, values, strict=True)}
    weighted = precision_recall_fscore_support(truth, predicted, labels=labels, average="weighted", zero_division=0)
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "balanced_accuracy": _mean_of(metrics, "recall", classes),
        CLASSIFICATION_SCORE: _mean_of(metrics, "auroc", classes),
        "average_precision": _mean_of(metrics, "average_precision", classes),
        "macro_f1": _mean_of(metrics, "f1", classes),
        "weighted_precision": float(weighted[0]),
        "weighted_recall": float(weighted[1]),
        "weighted_f1": float(weighted[2]),
        **metrics,
    }


def confusion(truth: Integers, predicted: Integers, num_classes: int) -> Integers:
    """Counts [C, C]: rows are the true class, columns the predicted one."""
    counts: Integers = confusion_matrix(truth, predicted, labels=range(num_classes))
    return counts


def resampled_classification(
    truth: Integers, probabilities: Floats, classes: Sequence[str], weights: Floats
) -> dict[str, Floats]:
    """`classification_metrics` for many weightings of the cases, but for accuracy and AUROC.

    Args:
        truth: [N] class indices.
        probabilities: [N, C].
        classes: C names.
        weights: [B, N], how often each case counts.

    Returns:
        Name to [B] values; NaN where a draw leaves a metric undefined.
    """
    num_classes = len(classes)
    cells = np.eye(num_classes**2)[truth * num_classes + probabilities.argmax(axis=1)]
    counts = (weights @ cells).reshape(-1, num_classes, num_classes)
    hits = np.diagonal(counts, axis1=1, axis2=2)
    actual, called, total = counts.sum(axis=2), counts.sum(axis=1), counts.sum(axis=(1, 2))
    share = _ratio(actual, total[:, None])
    per_class = {
        "average_precision": np.stack(
            [_average_precisions(truth == i, probabilities[:, i], weights) for i in range(num_classes)], axis=1
        ),
        "precision": _ratio(hits, called),
        "recall": _ratio(hits, actual),
        "f1": _ratio(2 * hits, actual + called),
    }
    values = {
        "balanced_accuracy": _nan_mean(per_class["recall"]),
        "average_precision": _nan_mean(per_class["average_precision"]),
        "macro_f1": _nan_mean(per_class["f1"]),
    }
    for kind in ("precision", "recall", "f1"):
        values[f"weighted_{kind}"] = (share * np.nan_to_num(per_class[kind])).sum(axis=1)
    for kind, table in per_class.items():
        values |= {f"{kind}_{name}": table[:, i] for i, name in enumerate(classes)}
    return values


def case_means(dice: Floats) -> Floats:
    """Mean foreground Dice of each case.

    Args:
        dice: [N, K], NaN where a class is in neither truth nor prediction.

    Returns:
        [N]; NaN where no class is in either.
    """
    return _nan_mean(dice)


def mean_foreground_dice(dice: Floats) -> float:
    """The segmentation score: the mean over cases of `case_means`; NaN where no case has one."""
    return float(_nan_mean(case_means(dice)))


def _auroc(positive: NDArray[np.bool_], scores: Floats) -> float:
    if positive.all() or not positive.any():
        return float("nan")
    return float(roc_auc_score(positive, scores))


def _precision(positive: NDArray[np.bool_], scores: Floats) -> float:
    if positive.all() or not positive.any():
        return float("nan")
    return float(average_precision_score(positive, scores))


def _average_precisions(positive: NDArray[np.bool_], scores: Floats, weights: Floats) -> Floats:
    """Weighted average precision: precision at each score, by the share of the positives that have it. [B]."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)
    in_group = np.add.reduceat(positive[order].astype(np.int64), starts)
    if not in_group.any():
        return np.full(len(weights), np.nan)
    # Precision counts where positives are: sums run from one such score to the next, over cases along the first axis.
    held = in_group > 0
    cuts, num_hits = np.append(starts[1:], len(order))[held], in_group[held]
    ordered = np.ascontiguousarray(weights.T)[order[: cuts[-1]]]
    called = np.cumsum(np.add.reduceat(ordered, np.append(0, cuts[:-1]), axis=0), axis=0)
    hits = np.add.reduceat(ordered[positive[order[: cuts[-1]]]], np.cumsum(num_hits) - num_hits, axis=0)
    found = np.cumsum(hits, axis=0)
    total = found[-1].copy()
    found /= np.where(called > 0, called, 1)
    average = _ratio(np.einsum("ib,ib->b", found, hits), total)
    return np.where(total < weights.sum(axis=1), average, np.nan)


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    ratios: Floats = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=ratios, where=denominator > 0)
    return ratios


def _nan_mean(table: Floats) -> Floats:
    """Mean over the last axis, NaN left out; NaN where nothing is left."""
    return _ratio(np.nansum(table, axis=-1), np.isfinite(table).sum(axis=-1))


def _mean_of(metrics: Metrics, kind: str, classes: Sequence[str]) -> float:
    return float(_nan_mean(np.array([metrics[f"{kind}_{name}"] for name in classes])))
