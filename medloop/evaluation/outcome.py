"""What scoring a test set gives, the same for both tasks, so that record, table and page are written once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medloop.evaluation.cases import HeldOut
from medloop.evaluation.grids import Packed
from medloop.evaluation.scores import Floats, Integers, Metrics
from medloop.evaluation.statistics import Spread

Cell = str | int | float | None
"""Of a table; None and NaN are undefined."""


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
    unit: str
    """Of `hd95`: mm where every header says mm, voxels otherwise."""
    dice: Floats
    """[N, K]; NaN where the class is in neither truth nor prediction."""
    hd95: Floats
    """[N, K]; NaN as `dice`, infinity where the class is in one of the two."""
    present: NDArray[np.bool_]
    """[N, K]: the truth holds the class."""
    predictions: Sequence[Packed]


@dataclass(frozen=True)
class Outcome:
    """A scored test set."""

    score_name: str
    metrics: Metrics
    spreads: dict[str, Spread]
    """Empty where the patients are too few or not known."""
    class_counts: dict[str, int]
    cases: Table
    """One row a case, for cases.csv."""
    subset_score: Callable[[NDArray[np.bool_]], float]
    """The main score of the cases [N] that a mask names; NaN where undefined."""
    scored: ScoredImages | ScoredVolumes
    """What the page is drawn from."""
    answers: Floats
    """What a comparison with another model needs: probabilities [N, C], or Dice [N, K] by case and structure."""
    confusion: dict[str, dict[str, int]] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def score(self) -> float:
        """The main score; NaN where the test set leaves it undefined."""
        return self.metrics[self.score_name]
