"""Intensity rules of volumes: from voxel values of any unit to numbers in a network's range.

zscore    by the volume itself: MR and ultrasound have no unit
window    clip to fixed bounds, scale to 0..1: CT in Hounsfield units
dataset   clip to the 0.5 and 99.5 percentiles of the training set's foreground voxels, then subtract their mean and
          divide by their standard deviation (nnU-Net's rule for CT: Isensee et al. 2021, Nature Methods 18)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.documents.hyperparameters import SegmentationHyperparameters
from medloop.documents.model import Intensity
from medloop.errors import DataError

VOXELS_PER_CASE = 10_000
"""Foreground voxels drawn from each volume, so that a large structure in one patient doesn't rule the statistics."""
SMALLEST_STD = 1e-8
"""A constant volume has no contrast to scale: it becomes zeros."""


def scale(voxels: NDArray[Any], rule: Intensity) -> NDArray[np.float32]:
    """Apply a rule.

    Args:
        voxels: Any shape, any real type, finite.
        rule: From model.json, or `fit`.

    Returns:
        float32, same shape.

    Raises:
        DataError: model.json's rule lacks a number.
    """
    values = voxels.astype(np.float32)
    if rule.rule == "zscore":
        mean, std = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    elif rule.low is None or rule.high is None or rule.mean is None or rule.std is None:
        raise DataError(
            f"model.json: intensity rule {rule.rule} needs low, high, mean and std; give training's own file"
        )
    else:
        np.clip(values, rule.low, rule.high, out=values)
        mean, std = rule.mean, rule.std
    values -= np.float32(mean)
    values /= np.float32(max(std, SMALLEST_STD))
    return values


def fit(settings: SegmentationHyperparameters, cases: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> Intensity:
    """Make the rule of the settings, with the numbers that it needs.

    Args:
        settings: `intensity`, `window` and `seed` are read.
        cases: (voxels, label) of the training volumes, on one grid; read for intensity=dataset only.

    Raises:
        DataError: intensity=dataset, and no training volume holds foreground.
    """
    if settings.intensity == "zscore":
        return Intensity(rule="zscore")
    if settings.intensity == "window":
        low, high = settings.window
        return Intensity(rule="window", low=low, high=high, mean=low, std=high - low)
    generator = np.random.default_rng(settings.seed)
    samples = [_foreground_sample(voxels, label, generator) for voxels, label in cases]
    values = np.concatenate(samples) if samples else np.empty(0)
    if values.size == 0:
        raise DataError("channel train: no label contains foreground for intensity=dataset; correct the labels")
    low, high = np.percentile(values, (0.5, 99.5)).tolist()
    std = max(float(values.std()), SMALLEST_STD)
    return Intensity(rule="dataset", low=low, high=high, mean=float(values.mean()), std=std)


def _foreground_sample(
    voxels: NDArray[Any], label: NDArray[Any], generator: np.random.Generator
) -> NDArray[np.float64]:
    foreground = voxels[label > 0].astype(np.float64)
    if foreground.size <= VOXELS_PER_CASE:
        return foreground
    return generator.choice(foreground, VOXELS_PER_CASE, replace=False)
