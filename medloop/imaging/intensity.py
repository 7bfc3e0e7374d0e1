"""Intensity rules of volumes: from voxel values of any unit to numbers in a network's range.

zscore    by the volume itself: MR and ultrasound have no unit. With percentiles, mean and standard deviation are those
          of the body of the volume: a hot pixel, metal or a fill value outside the field of view doesn't change them
window    clip to fixed bounds, scale to 0..1: CT in Hounsfield units
dataset   clip to the 0.5 and 99.5 percentiles of the training set's foreground voxels, then subtract their mean and
          divide by their standard deviation (nnU-Net's rule for CT: Isensee et al. 2021, Nature Methods 18; here both
          are taken after clipping, so that one voxel of metal doesn't change them)
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
SMALLEST_CONTRAST = 1e-6
"""Standard deviation by mean, below which the body of a volume is constant in float32."""
MIN_STEPS = 4096
"""Values of float32 between a volume's lowest and highest one."""
SAMPLE = 1_000_003
"""Most voxels from which percentiles are taken, at equal distances: a prime, so that they are on no common plane."""
FILL_DISTANCE = 2.0
"""A fill value (-2000 around the field of view) is further from the other voxels than this many times their range.

Zero is none: it is the background of a skull-stripped brain, at any distance, and part of every such volume."""
LIMIT = 10.0
"""Standard deviations from which z-scores with percentiles grow by their logarithm: order and contrast stay."""


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
    offset = _offset(voxels)
    values = (voxels - offset if offset else voxels).astype(np.float32)
    if rule.rule == "zscore":
        mean, std = _body_moments(values, rule.percentiles) if rule.percentiles else _moments(values)
    elif rule.low is None or rule.high is None or rule.mean is None or rule.std is None:
        raise DataError(
            f"model.json: intensity rule {rule.rule} needs low, high, mean and std; give training's own file"
        )
    else:
        np.clip(values, rule.low - offset, rule.high - offset, out=values)
        mean, std = rule.mean - offset, rule.std
    values -= np.float32(mean)
    # Maps in SI units, such as diffusion in m2/s, have deviations below any fixed bound.
    values /= np.float32(max(std, np.finfo(np.float32).tiny if rule.percentiles else SMALLEST_STD))
    if rule.percentiles:
        _compress(values)
    return values


def _offset(voxels: NDArray[Any]) -> float:
    """A value to subtract from voxels whose contrast float32 doesn't have, as they are far from zero; else 0."""
    if voxels.dtype.kind not in "iuf" or voxels.dtype.itemsize < 4 or voxels.dtype == np.float32:
        return 0.0
    low, high = float(voxels.min()), float(voxels.max())
    step = float(np.finfo(np.float32).eps) * max(abs(low), abs(high))
    return low if step * MIN_STEPS > high - low else 0.0


def _moments(values: NDArray[Any]) -> tuple[float, float]:
    return float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))


def _body_moments(values: NDArray[np.float32], percentiles: tuple[float, float]) -> tuple[float, float]:
    """Mean and standard deviation of the voxels without fill value, clipped to their percentiles.

    Fill values keep their place far from the others: a saturated vessel on a dark background looks the same.
    """
    number = min(values.size, SAMPLE)
    sample = values.ravel()[np.arange(number) * values.size // number]
    low, high = percentiles
    body = _without_fill(sample, high)
    body = -_without_fill(-body, 100 - low)
    mean, std = _moments(np.clip(body, *np.percentile(body, percentiles)))
    # Nearly all voxels may have one value, and the contrast is in the few others: vessels, a sparse phantom.
    return (mean, std) if std > SMALLEST_CONTRAST * abs(mean) else _moments(values)


def _without_fill(values: NDArray[np.float32], percentile: float) -> NDArray[np.float32]:
    """The values without their highest, if that is a fill value: frequent, and far from all others."""
    highest = values.max()
    if highest == 0 or highest > np.percentile(values, percentile):
        return values
    rest = values[values < highest]
    low, high = np.percentile(rest, (100 - percentile, percentile)) if rest.size else (highest, highest)
    return rest if highest - high > FILL_DISTANCE * (high - low) > 0 else values


def _compress(values: NDArray[np.float32]) -> None:
    """Let what is beyond LIMIT grow by its logarithm."""
    beyond = np.abs(values) > LIMIT
    excess = values[beyond]
    values[beyond] = np.sign(excess) * (LIMIT + np.log1p(np.abs(excess) - LIMIT))


def fit(settings: SegmentationHyperparameters, cases: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> Intensity:
    """Make the rule of the settings, with the numbers that it needs.

    Args:
        settings: `intensity`, `zscore_percentiles`, `window` and `seed` are read.
        cases: (voxels, label) of the training volumes, on one grid; read for intensity=dataset only.

    Raises:
        DataError: intensity=dataset, and no training volume holds foreground.
    """
    if settings.intensity == "zscore":
        return Intensity(rule="zscore", percentiles=settings.zscore_percentiles)
    if settings.intensity == "window":
        low, high = settings.window
        return Intensity(rule="window", low=low, high=high, mean=low, std=high - low)
    generator = np.random.default_rng(settings.seed)
    samples = [_foreground_sample(voxels, label, generator) for voxels, label in cases]
    values = np.concatenate(samples) if samples else np.empty(0)
    if values.size == 0:
        raise DataError("channel train: no label contains foreground for intensity=dataset; correct the labels")
    low, high = np.percentile(values, (0.5, 99.5)).tolist()
    mean, std = _moments(np.clip(values, low, high))
    return Intensity(rule="dataset", low=low, high=high, mean=mean, std=max(std, SMALLEST_STD))


def _foreground_sample(
    voxels: NDArray[Any], label: NDArray[Any], generator: np.random.Generator
) -> NDArray[np.float64]:
    foreground = voxels[label > 0].astype(np.float64)
    if foreground.size <= VOXELS_PER_CASE:
        return foreground
    return generator.choice(foreground, VOXELS_PER_CASE, replace=False)
