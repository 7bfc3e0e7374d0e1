"""A model's scores on a test set, the same for both tasks, so that record, table and page are written once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medloop.documents.evaluation import (
    CalibrationCurve,
    LesionCounts,
    MetricValue,
    OperatingPoint,
    Statistic,
    VolumeAgreement,
)
from medloop.evaluation.csv_table import CsvTable
from medloop.evaluation.intervals.estimate import Estimate
from medloop.evaluation.measure import Measured, estimate
from medloop.evaluation.metrics import score_of
from medloop.evaluation.scored_cases import Scored


@dataclass(frozen=True)
class ModelScores:
    """Metrics, tables and counts of a scored test set."""

    scored: Scored
    measured: Sequence[Measured]
    class_counts: dict[str, int]
    cases: CsvTable
    """One row a case, for cases.csv."""
    confusion: dict[str, dict[str, int]] | None = None
    volumes: Sequence[VolumeAgreement] = ()
    lesions: Sequence[LesionCounts] = ()
    calibration: CalibrationCurve | None = None
    operating_points: Sequence[OperatingPoint] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def score(self) -> Statistic:
        """The main score; its value is None where the test set leaves it undefined."""
        return next(statistic for statistic in self.statistics if statistic.name == score_of(self.scored.task).name)

    @property
    def metrics(self) -> dict[str, MetricValue]:
        """Metrics in SageMaker's shape, without undefined ones; only one with an interval has a standard deviation."""
        estimates = {row.key: row.estimate for row in self.measured if math.isfinite(row.estimate.value)}
        return {
            key: MetricValue(value=row.value, standard_deviation=row.standard_error if row.interval else 0.0)
            for key, row in estimates.items()
        }

    @property
    def statistics(self) -> list[Statistic]:
        """Metrics with intervals and counts, as evaluation.json has them."""
        return [row.statistic for row in self.measured if row.metric.shown]

    def score_of_subset(self, mask: NDArray[np.bool_]) -> Estimate:
        """Estimate the main score of the cases that a mask [N] selects."""
        return estimate(score_of(self.scored.task), self.scored.subset(mask))
