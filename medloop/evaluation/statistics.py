"""How sure a metric is, in short: what SageMaker's model quality metrics and tables need of an estimate."""

from __future__ import annotations

from dataclasses import dataclass

from medloop.evaluation.intervals.estimate import LEVEL as LEVEL
from medloop.evaluation.intervals.estimate import MIN_PATIENTS as MIN_PATIENTS


@dataclass(frozen=True)
class Spread:
    """A metric's standard error and its interval at `LEVEL`."""

    standard_deviation: float
    lower: float
    upper: float
