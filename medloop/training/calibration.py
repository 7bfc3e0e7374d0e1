"""Calibration of a classifier on the validation split, with the weights that were kept: frozen before any test.

One temperature divides the logits (Guo et al. 2017, arXiv:1706.04599); it leaves the most probable class as it is. One
threshold a class, on the calibrated probability against the rest, is where Youden's J (sensitivity plus specificity
less 1; https://doi.org/10.1002/1097-0142(1950)3:1%3C32::AID-CNCR2820030106%3E3.0.CO;2-3) is largest. Torch-free.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
MIN_CASES = 10
"""Validation cases; from fewer nothing is fitted."""
MIN_PATIENTS = 5
"""Validation patients, where they are known; from fewer no thresholds: those of one patient's slices don't hold for
others (docs/measurements.md)."""
LOWEST, HIGHEST = 0.2, 5.0
"""Of the temperature."""


@dataclass(frozen=True)
class Calibration:
    """What model.json holds.

    Attributes:
        temperature: None where none could be fitted; logits stay as they are.
        operating_point: Threshold by class; a class without one isn't there.
        note: What was done, or why not, in one line for the log.
    """

    temperature: float | None = None
    operating_point: dict[str, float] = field(default_factory=dict)
    note: str = ""


def calibrate(logits: Floats, labels: Integers, classes: Sequence[str], num_patients: int | None = None) -> Calibration:
    """Fit temperature and thresholds.

    Args:
        logits: [N, C] of the validation split, each case once.
        labels: [N] class indices.
        classes: C names.
        num_patients: Whose cases they are; None where patients are not known.
    """
    if len(labels) < MIN_CASES:
        return Calibration(note=f"calibration: val has {len(labels)} cases, fewer than {MIN_CASES}: nothing is fitted")
    if len(np.unique(labels)) < 2:
        return Calibration(note="calibration: val holds one class only: nothing is fitted")
    temperature = find_temperature(logits, labels)
    said = f"calibration on val: {_said(logits, labels, temperature)}"
    if num_patients is not None and num_patients < MIN_PATIENTS:
        few = f"no thresholds from val patients fewer than {MIN_PATIENTS} ({num_patients})"
        return Calibration(temperature, note=f"{said}; {few}")
    points = _operating_points(softmax(logits / (temperature or 1.0), axis=1), labels, classes)
    return Calibration(temperature, points, f"{said}; {_shown(points)}")


def find_temperature(logits: Floats, labels: Integers) -> float | None:
    """The temperature with the least negative log-likelihood, within `LOWEST` and `HIGHEST`.

    In its inverse the likelihood is log-concave: its slope crosses 0 once.

    Returns:
        None where no case is mistaken: then the likelihood has no maximum, and the bound alone would say how sure the
        model may be. 1 where the logits say nothing at all.
    """
    if bool((logits[range(len(labels)), labels] > _largest_other(logits, labels)).all()):
        return None

    def slope(inverse: float) -> float:
        expected = (softmax(logits * inverse, axis=1) * logits).sum(axis=1)
        return float((expected - logits[range(len(labels)), labels]).mean())

    coldest, hottest = slope(1 / LOWEST), slope(1 / HIGHEST)
    if coldest <= 0:
        return 1.0 if hottest >= 0 else LOWEST
    return HIGHEST if hottest >= 0 else 1 / float(brentq(slope, 1 / HIGHEST, 1 / LOWEST, xtol=1e-12))


def loss_at(logits: Floats, labels: Integers, temperature: float) -> float:
    """Mean negative log-likelihood."""
    return -float(log_softmax(logits / temperature, axis=1)[range(len(labels)), labels].mean())


def find_threshold(positive: NDArray[np.bool_], scores: Floats) -> float | None:
    """From which score on to call the class, so that Youden's J is largest: the middle between two cases' scores.

    Of thresholds that are equally good the one in the widest gap is taken, and of equally wide gaps the lowest.

    Args:
        positive: [N], cases of the class.
        scores: [N].

    Returns:
        None without cases of the class or without others, and where no threshold is better than chance.
    """
    if positive.all() or not positive.any():
        return None
    values = np.unique(scores)
    hits, false = (_at_or_above(scores[mask], values[1:]) for mask in (positive, ~positive))
    # Whole numbers: equal thresholds are exactly equal.
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
    """By class; of two classes the thresholds add up to 1, so that a case is called one of them."""
    if len(classes) == 2:
        threshold = find_threshold(labels == 1, probabilities[:, 1])
        return {} if threshold is None else {classes[0]: 1 - threshold, classes[1]: threshold}
    found = {name: find_threshold(labels == i, probabilities[:, i]) for i, name in enumerate(classes)}
    return {name: threshold for name, threshold in found.items() if threshold is not None}


def _largest_other(logits: Floats, labels: Integers) -> Floats:
    """Each case's largest logit of another class than its own [N]."""
    others: Floats = np.where(np.arange(logits.shape[1]) == labels[:, None], -np.inf, logits).max(axis=1)
    return others


def _said(logits: Floats, labels: Integers, temperature: float | None) -> str:
    if temperature is None:
        return "no temperature, as no case is mistaken"
    before, after = (loss_at(logits, labels, t) for t in (1.0, temperature))
    return f"temperature {temperature:.4f} (loss {before:.4f}, with it {after:.4f})"


def _shown(points: dict[str, float]) -> str:
    if not points:
        return "no thresholds"
    return "thresholds " + json.dumps({name: round(value, 4) for name, value in points.items()}, ensure_ascii=False)
