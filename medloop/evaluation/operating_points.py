"""Operating points: the probability from which a class is predicted, and the predictions that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from medloop.documents.evaluation import OperatingPoint
from medloop.evaluation.intervals.estimate import Floats

DEFAULT = 0.5


def operating_points(fitted: Mapping[str, float] | None, classes: Sequence[str]) -> list[OperatingPoint]:
    """Make each class's operating point from model.json's thresholds; 0.5 if none was fitted.

    Of two classes the second's threshold decides, and the first's is 1 minus it, so that every case is called exactly
    one of the two.
    """
    thresholds = dict(fitted or {})
    if len(classes) == 2:
        first, second = classes
        known = second in thresholds or first in thresholds
        threshold = thresholds.get(second, 1 - thresholds.get(first, DEFAULT))
        source = "val" if known else "default"
        return [_point(first, 1 - threshold, source), _point(second, threshold, source)]
    return [_point(name, thresholds.get(name, DEFAULT), "val" if name in thresholds else "default") for name in classes]


def called(probabilities: Floats, points: Sequence[OperatingPoint]) -> NDArray[np.bool_]:
    """Return [N, C], true if the probability reaches the class's threshold; of two classes exactly one is true."""
    calls: NDArray[np.bool_] = probabilities >= np.array([point.threshold for point in points])
    if len(points) == 2:
        calls[:, 0] = ~calls[:, 1]
    return calls


def _point(name: str, threshold: float, source: str) -> OperatingPoint:
    return OperatingPoint.model_validate({"class_name": name, "threshold": threshold, "source": source})
