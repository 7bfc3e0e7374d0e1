"""A model's scores on a test set, the same for both tasks, so that record, table and page are written once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medloop.documents.evaluation import CalibrationCurve, LesionCounts, OperatingPoint, Statistic, VolumeAgreement
from medloop.evaluation.csv_table import Table
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
    cases: Table
    """One row a case, for cases.csv."""
    confusion: dict[str, dict[str, int]] | None = None
    volumes: Sequence[VolumeAgreement] = ()
    lesions: Sequence[LesionCounts] = ()
    calibration: CalibrationCurve | None = None
    operating_points: Sequence[OperatingPoint] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def score_name(self) -> str:
        """The main score's metric."""
        return score_of(self.scored.task).name

    @property
    def score(self) -> Statistic:
        """The main score; its value is None where the test set leaves it undefined."""
        return next(found for found in self.statistics if found.name == self.score_name)

    @property
    def metrics(self) -> dict[str, float]:
        """Values in SageMaker's shape; NaN where undefined."""
        return {found.key: found.estimate.value for found in self.measured}

    @property
    def standard_errors(self) -> dict[str, float]:
        """Standard errors of the metrics with an interval; empty if the patients are too few or not known."""
        return {found.key: found.estimate.standard_error for found in self.measured if found.estimate.interval}

    @property
    def statistics(self) -> list[Statistic]:
        """Metrics with intervals and counts, as evaluation.json has them."""
        return [found.statistic for found in self.measured if found.metric.shown]

    def score_of_subset(self, mask: NDArray[np.bool_]) -> Estimate:
        """Estimate the main score of the cases that a mask [N] selects."""
        return estimate(score_of(self.scored.task), self.scored.subset(mask))
