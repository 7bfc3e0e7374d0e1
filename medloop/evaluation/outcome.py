"""What scoring a test set gives, the same for both tasks, so that record, table and page are written once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medloop.documents.evaluation import Calibration, Lesions, OperatingPoint, Statistic, VolumeAgreement
from medloop.evaluation.cases import HeldOut
from medloop.evaluation.grids import Packed
from medloop.evaluation.intervals.estimate import Estimate
from medloop.imaging.metrics import ClassScores
from medloop.imaging.scores import Floats, Integers, Metrics

Cell = str | int | float | None
"""Of a table; None and NaN are undefined."""
Unit = Literal["mm", "voxels"]


@dataclass(frozen=True)
class Table:
    """Rows under headings."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


@dataclass(frozen=True)
class ScoredImages:
    """A classifier's answers."""

    cases: Sequence[HeldOut]
    classes: Sequence[str]
    truth: Integers
    """[N] class indices."""
    probabilities: Floats
    """[N, C]."""


@dataclass(frozen=True)
class ScoredVolumes:
    """A segmentation model's answers, case by case."""

    cases: Sequence[HeldOut]
    classes: Sequence[str]
    """Foreground classes."""
    unit: Unit
    """Of lengths: mm where every header says mm, voxels otherwise; of volumes then ml, else voxels."""
    tolerance: float
    """Of the surface Dice, in `unit`."""
    scores: Sequence[Sequence[ClassScores]]
    """N cases of K classes."""
    predictions: Sequence[Packed]

    def table(self, name: str) -> Floats:
        """One of the scores' numbers, [N, K]; NaN where it is defined for neither truth nor prediction."""
        found = [[float(getattr(scores, name)) for scores in case] for case in self.scores]
        return np.array(found, dtype=np.float64).reshape(len(self.cases), len(self.classes))

    @property
    def volume_unit(self) -> Literal["ml", "voxels"]:
        """Of volumes."""
        return "ml" if self.unit == "mm" else "voxels"

    @property
    def dice(self) -> Floats:
        """[N, K]; NaN where the class is in neither truth nor prediction, 0 where it is in one alone."""
        return self.table("dice")

    @property
    def hd95(self) -> Floats:
        """[N, K] in `unit`; NaN as `dice`, the image's diagonal where the class is in one of the two alone."""
        return self.table("hd95")

    @property
    def present(self) -> NDArray[np.bool_]:
        """[N, K]: the truth holds the class."""
        return self.table("volume_truth") > 0

    @property
    def failed(self) -> NDArray[np.bool_]:
        """[N, K]: the class is in truth or prediction alone."""
        return self.table("failed") > 0


@dataclass(frozen=True)
class Outcome:
    """A scored test set."""

    score_name: str
    metrics: Metrics
    standard_errors: dict[str, float]
    """Of the metrics that have an interval; empty where the patients are too few or not known."""
    class_counts: dict[str, int]
    cases: Table
    """One row a case, for cases.csv."""
    subset_score: Callable[[NDArray[np.bool_]], Estimate]
    """The main score of the cases [N] that a mask names."""
    scored: ScoredImages | ScoredVolumes
    """What the page is drawn from."""
    answers: Floats
    """What a comparison with another model needs: probabilities [N, C], or Dice [N, K] by case and structure."""
    confusion: dict[str, dict[str, int]] | None = None
    statistics: Sequence[Statistic] = ()
    """All that evaluation.json tells with intervals and counts."""
    volumes: Sequence[VolumeAgreement] = ()
    lesions: Sequence[Lesions] = ()
    calibration: Calibration | None = None
    operating_points: Sequence[OperatingPoint] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def score(self) -> float:
        """The main score; NaN where the test set leaves it undefined."""
        return self.metrics[self.score_name]
