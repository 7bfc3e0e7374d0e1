"""Every metric of the scored cases, with its interval over patients, in the order of `medloop.evaluation.metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from medloop.documents.evaluation import Statistic
from medloop.evaluation.image_metrics import WeightedImages
from medloop.evaluation.intervals.bootstrap import bca_bootstrap
from medloop.evaluation.intervals.estimate import Estimate, Floats, Sample
from medloop.evaluation.metrics import Metric, metrics_of
from medloop.evaluation.scored_cases import Scored, ScoredImages

MetricOfClass = tuple[Metric, int | None]
"""A metric and a class's index; None: over all classes."""


@dataclass(frozen=True)
class Measured:
    """A metric's value of one class, or over all, as evaluation.json and SageMaker's model quality metrics have it."""

    metric: Metric
    class_name: str
    """Empty: over all classes."""
    estimate: Estimate
    statistic: Statistic
    key: str
    """Name in SageMaker's metrics: `recall_CLASS`, `hd95_mm_CLASS`, or without a class."""


def measure(scored: Scored) -> list[Measured]:
    """Estimate all metrics of the task: those over all classes, then those of each class."""
    rows, indices = list(metrics_of(scored.task)), (None, *range(len(scored.classes)))
    pairs = [(metric, k) for k in indices for metric in rows if k in metric.class_indices(scored)]
    estimates = _estimate_all(pairs, scored)
    return [_measured(pair, estimate, scored) for pair, estimate in zip(pairs, estimates, strict=True)]


def estimate(metric: Metric, scored: Scored, k: int | None = None) -> Estimate:
    """Estimate one metric of a class, or over all classes."""
    return _estimate_all([(metric, k)], scored)[0]


def _estimate_all(pairs: Sequence[MetricOfClass], scored: Scored) -> list[Estimate]:
    weighted = [pair for pair in pairs if pair[0].interval is bca_bootstrap]
    drawn = _resample(weighted, scored) if weighted and isinstance(scored, ScoredImages) else {}
    return [drawn[pair] if pair in drawn else _estimate(*pair, scored) for pair in pairs]


def _resample(pairs: Sequence[MetricOfClass], scored: ScoredImages) -> dict[MetricOfClass, Estimate]:
    """Bootstrap all of them together: they share draws and counts."""

    def values(weights: Floats) -> dict[MetricOfClass, Floats]:
        images = WeightedImages(scored.truth, scored.probabilities, weights)
        return {(metric, k): metric.function(images, k) for metric, k in pairs}

    return bca_bootstrap(values, len(scored.cases), scored.patients)


def _estimate(metric: Metric, k: int | None, scored: Scored) -> Estimate:
    if metric.interval is None:
        point: Estimate = metric.function(scored, k)
        return point
    sample: Sample = metric.function(scored, k)
    estimate: Estimate = metric.interval(sample.values, sample.patients)
    return replace(estimate, num_excluded=sample.num_excluded, num_failures=sample.num_failures)


def _measured(pair: MetricOfClass, estimate: Estimate, scored: Scored) -> Measured:
    metric, k = pair
    unit, class_name = scored.units[metric.unit], "" if k is None else scored.classes[k]
    statistic = estimate.statistic(metric.name, class_name, unit=unit, note=metric.make_note(scored, k))
    return Measured(metric, class_name, estimate, statistic, metric.make_key(scored, k))
