"""Functions of a classifier's metrics, which the rows of `medloop.evaluation.metrics` name.

Each takes the scored images and a class's index, None over all classes. A metric whose interval is bootstrapped takes
`WeightedImages` instead and returns one value a weighting: scikit-learn can't do that in reasonable time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medloop.evaluation.calibration import calibration_error
from medloop.evaluation.intervals.estimate import Estimate, Floats, Sample, subset
from medloop.evaluation.scored_cases import Integers, ScoredImages
from medloop.imaging.metrics import nan_mean, ratio


def auroc(scored: ScoredImages, k: int | None) -> Sample:
    """Set one class against the rest; for None, each class, for their mean."""
    classes = range(len(scored.classes)) if k is None else [k]
    sides = [(scored.truth == c, scored.probabilities[:, c]) for c in classes]
    return Sample(sides, scored.patients)


def accuracy(scored: ScoredImages, _: int | None) -> Sample:
    """Return 1 for each case whose most probable class is its own, 0 for the others."""
    return Sample(scored.predicted == scored.truth, scored.patients)


def sensitivity(scored: ScoredImages, k: int) -> Sample:
    """Return 1 for each case of the class that is called so at the operating point, else 0."""
    positive = scored.truth == k
    return Sample(scored.called[positive, k], subset(scored.patients, positive))


def specificity(scored: ScoredImages, k: int) -> Sample:
    """Return 1 for each case of another class that isn't called this class at the operating point, else 0."""
    negative = scored.truth != k
    return Sample(~scored.called[negative, k], subset(scored.patients, negative))


def expected_calibration_error(scored: ScoredImages, _: int | None) -> Estimate:
    """ECE, which has no interval."""
    return calibration_error(scored.truth, scored.probabilities, scored.patients)


def operating_point(scored: ScoredImages, k: int) -> str:
    """Return the note on a metric at the operating point: its threshold."""
    point = scored.points[k]
    source = "fitted on val" if point.source == "val" else "not fitted"
    return f"Predicted from a probability of {point.threshold:.3g} on ({source})."


def classes_left_out(scored: ScoredImages, k: int | None) -> str:
    """Return the note on a mean over classes: those without cases, or without cases of other classes."""
    positive = [scored.truth == c for c in range(len(scored.classes))]
    missing = [name for name, of_it in zip(scored.classes, positive, strict=True) if of_it.all() or not of_it.any()]
    return f"Over the classes with cases and others; not {', '.join(missing)}." if missing and k is None else ""


@dataclass(frozen=True)
class WeightedImages:
    """A classifier's answers, with many weightings of the cases at once: B draws of N cases of C classes.

    Args:
        truth: [N] class indices.
        probabilities: [N, C].
        weights: [B, N], how often each case counts.
    """

    truth: Integers
    probabilities: Floats
    weights: Floats

    @cached_property
    def counts(self) -> Floats:
        """Confusion matrices [B, C, C]: rows are the true class, columns the predicted one."""
        num_classes = self.probabilities.shape[1]
        cells = np.eye(num_classes**2)[self.truth * num_classes + self.probabilities.argmax(axis=1)]
        counts: Floats = (self.weights @ cells).reshape(-1, num_classes, num_classes)
        return counts

    @cached_property
    def hits(self) -> Floats:
        """Cases of each class that are predicted to be of it [B, C]."""
        return np.diagonal(self.counts, axis1=1, axis2=2)

    @cached_property
    def actual(self) -> Floats:
        """Cases of each class [B, C]."""
        return np.asarray(self.counts.sum(axis=2))

    @cached_property
    def predicted(self) -> Floats:
        """Cases that are predicted to be of each class [B, C]."""
        return np.asarray(self.counts.sum(axis=1))

    @cached_property
    def precisions(self) -> Floats:
        """Share of the cases predicted to be of each class that are of it [B, C]."""
        return ratio(self.hits, self.predicted)

    @cached_property
    def recalls(self) -> Floats:
        """Share of each class's cases that are predicted to be of it [B, C]."""
        return ratio(self.hits, self.actual)

    @cached_property
    def f1s(self) -> Floats:
        """Harmonic mean of precision and recall of each class [B, C]; NaN in neither truth nor prediction."""
        return ratio(2 * self.hits, self.actual + self.predicted)

    @cached_property
    def average_precisions(self) -> Floats:
        """Precision of each class against the rest, averaged over the recall that each score adds [B, C].

        NaN without cases of the class, or of another one.
        """
        columns = [
            _average_precisions(self.truth == k, self.probabilities[:, k], self.weights)
            for k in range(self.probabilities.shape[1])
        ]
        return np.stack(columns, axis=1)


def by_class(table: str) -> Callable[[WeightedImages, int | None], Floats]:
    """Make the function of a metric from a table [B, C] of `WeightedImages`.

    It returns a class's column; None: the mean over the classes that have a value.
    """

    def column(drawn: WeightedImages, k: int | None) -> Floats:
        values: Floats = getattr(drawn, table)
        return nan_mean(values) if k is None else values[:, k]

    return column


def weighted(table: str) -> Callable[[WeightedImages, int | None], Floats]:
    """Make the function of a metric from a table [B, C] of `WeightedImages`: the mean, weighted by classes' cases."""

    def average(drawn: WeightedImages, _: int | None) -> Floats:
        share = ratio(drawn.actual, drawn.counts.sum(axis=(1, 2))[:, None])
        return np.asarray((share * np.nan_to_num(getattr(drawn, table))).sum(axis=1))

    return average


def _average_precisions(positive: NDArray[np.bool_], scores: Floats, weights: Floats) -> Floats:
    """Weighted average precision: precision at each score, by the share of the positives that have it. [B]."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)
    in_group = np.add.reduceat(positive[order].astype(np.int64), starts)
    if not in_group.any():
        return np.full(len(weights), np.nan)
    # Precision counts where positives are: sums run from one such score to the next, over cases along the first axis.
    has_positives = in_group > 0
    cuts, num_hits = np.append(starts[1:], len(order))[has_positives], in_group[has_positives]
    ordered = np.ascontiguousarray(weights.T)[order[: cuts[-1]]]
    called = np.cumsum(np.add.reduceat(ordered, np.append(0, cuts[:-1]), axis=0), axis=0)
    hits = np.add.reduceat(ordered[positive[order[: cuts[-1]]]], np.cumsum(num_hits) - num_hits, axis=0)
    precisions = np.cumsum(hits, axis=0)
    total = precisions[-1].copy()
    precisions /= np.where(called > 0, called, 1)
    average = ratio(np.einsum("ib,ib->b", precisions, hits), total)
    return np.where(total < weights.sum(axis=1), average, np.nan)
