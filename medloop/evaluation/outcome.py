"""What scoring a test set gives, the same for both tasks, so that record, table and page are written once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medloop.evaluation.scores import Metrics
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
class Figure:
    """A picture, as a data URI."""

    source: str
    text: str
    """Says in words what is to be seen."""
    caption: str = ""
    small: bool = False
    """One of many, side by side."""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()


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
    sections: Callable[[], list[Section]]
    """The task's own part of the page, drawn when asked for."""
    answers: NDArray[np.float64]
    """What a comparison with another model needs: probabilities [N, C], or Dice [N, K] by case and structure."""
    confusion: dict[str, dict[str, int]] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def score(self) -> float:
        """The main score; NaN where the test set leaves it undefined."""
        return self.metrics[self.score_name]
