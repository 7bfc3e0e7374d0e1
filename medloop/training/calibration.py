"""Calibration of a classifier on the validation split, with the best weights, before any test.

One temperature divides the logits (Guo et al. 2017, arXiv:1706.04599); it leaves the most probable class as it is. One
threshold a class, on the calibrated probability against the rest, is where Youden's J (sensitivity plus specificity
minus 1; https://doi.org/10.1002/1097-0142(1950)3:1%3C32::AID-CNCR2820030106%3E3.0.CO;2-3) is largest. Torch-free.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax

from medloop.container.metrics import name_in_log
from medloop.documents.split_rule import MIN_CALIBRATION_CASES, MIN_CALIBRATION_PATIENTS

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
LOWEST, HIGHEST = 0.2, 5.0
"""Bounds of the temperature."""


@dataclass(frozen=True)
class Calibration:
    """Temperature and thresholds for model.json.

    Attributes:
        temperature: None if none could be fitted; logits are unchanged.
        operating_point: Threshold by class; classes without one are missing.
        note: One line for the log: the result, or the reason why nothing was fitted.
    """

    temperature: float | None = None
    operating_point: dict[str, float] = field(default_factory=dict)
    note: str = ""


def calibrate(logits: Floats, labels: Integers, classes: Sequence[str], num_patients: int | None = None) -> Calibration:
    """Fit temperature and thresholds.

    Args:
        logits: [N, C] of the validation split.
        labels: [N] class indices.
        classes: C names.
        num_patients: Number of patients; None if patients are not known.
    """
    if len(labels) < MIN_CALIBRATION_CASES:
        return Calibration(
            note=f"calibration: val has {len(labels)} cases, fewer than {MIN_CALIBRATION_CASES}: nothing is fitted"
        )
    if len(np.unique(labels)) < 2:
        return Calibration(note="calibration: val contains only one class: nothing is fitted")
    temperature = find_temperature(logits, labels)
    result = f"calibration on val: {_temperature_text(logits, labels, temperature)}"
    if num_patients is not None and num_patients < MIN_CALIBRATION_PATIENTS:
        few = f"no thresholds from val patients fewer than {MIN_CALIBRATION_PATIENTS} ({num_patients})"
        return Calibration(temperature, note=f"{result}; {few}")
    points = _operating_points(softmax(logits / (temperature or 1.0), axis=1), labels, classes)
    return Calibration(temperature, points, f"{result}; {_threshold_text(points)}")


def find_temperature(logits: Floats, labels: Integers) -> float | None:
    """Find the temperature with the minimal negative log-likelihood, between `LOWEST` and `HIGHEST`.

    The likelihood is log-concave in the inverse temperature: its slope crosses 0 once.

    Returns:
        None if every case is classified correctly: the likelihood has no maximum then, and the temperature would be
        the bound. 1 if all logits are equal.
    """
    true_logits = logits[range(len(labels)), labels]
    largest_other = np.where(np.arange(logits.shape[1]) == labels[:, None], -np.inf, logits).max(axis=1)
    if (true_logits > largest_other).all():
        return None

    def slope(inverse: float) -> float:
        expected = (softmax(logits * inverse, axis=1) * logits).sum(axis=1)
        return float((expected - true_logits).mean())

    coldest, hottest = slope(1 / LOWEST), slope(1 / HIGHEST)
    if coldest <= 0:
        return 1.0 if hottest >= 0 else LOWEST
    return HIGHEST if hottest >= 0 else 1 / float(brentq(slope, 1 / HIGHEST, 1 / LOWEST, xtol=1e-12))


def find_threshold(positive: NDArray[np.bool_], scores: Floats) -> float | None:
    """Find the score threshold with the largest Youden's J: the middle between the scores of two cases.

    Among equally good thresholds the one in the widest gap is chosen, and among equally wide gaps the lowest.

    Args:
        positive: [N], true for cases of the class.
        scores: [N] probabilities of the class.

    Returns:
        None without cases of the class, without other cases, or if no threshold is better than chance.
    """
    if positive.all() or not positive.any():
        return None
    values = np.unique(scores)
    hits, false = (_at_or_above(scores[mask], values[1:]) for mask in (positive, ~positive))
    # Integers: equally good thresholds compare equal.
    youden = hits * int((~positive).sum()) - false * int(positive.sum())
    if not len(youden) or youden.max() <= 0:
        return None
    widths = np.where(youden == youden.max(), np.diff(values), -1.0)
    best = int(widths.argmax())
    return float((values[best] + values[best + 1]) / 2)


def _at_or_above(scores: Floats, thresholds: Floats) -> Integers:
    counts: Integers = len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")
    return counts


def _operating_points(probabilities: Floats, labels: Integers, classes: Sequence[str]) -> dict[str, float]:
    """Find thresholds by class; those of two classes add up to 1, so that every case is exactly one of them."""
    if len(classes) == 2:
        threshold = find_threshold(labels == 1, probabilities[:, 1])
        return {} if threshold is None else {classes[0]: 1 - threshold, classes[1]: threshold}
    thresholds = {name: find_threshold(labels == i, probabilities[:, i]) for i, name in enumerate(classes)}
    return {name: threshold for name, threshold in thresholds.items() if threshold is not None}


def _temperature_text(logits: Floats, labels: Integers, temperature: float | None) -> str:
    if temperature is None:
        return "no temperature, as every case is classified correctly"
    likelihoods = (log_softmax(logits / t, axis=1)[range(len(labels)), labels] for t in (1.0, temperature))
    before, after = (-float(likelihood.mean()) for likelihood in likelihoods)
    return f"temperature {temperature:.4f} (loss {before:.4f}, with it {after:.4f})"


def _threshold_text(points: dict[str, float]) -> str:
    if not points:
        return "no thresholds"
    return "thresholds " + json.dumps(
        {name_in_log(name): round(value, 4) for name, value in points.items()}, ensure_ascii=False
    )
