"""Intensity rules, against their definitions in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from medloop.documents.hyperparameters import SegmentationHyperparameters
from medloop.documents.model import Intensity
from medloop.errors import DataError
from medloop.imaging import intensity

RNG = np.random.default_rng(0)
VOXELS = RNG.normal(300, 80, (8, 9, 10)).astype(np.int16)
LABEL = (RNG.random((8, 9, 10)) < 0.3).astype(np.uint8)


def test_zscore() -> None:
    """Z-score is the volume's own: mean 0, standard deviation 1, in any unit."""
    scaled = intensity.scale(VOXELS, Intensity(rule="zscore"))
    np.testing.assert_allclose(scaled, (VOXELS - VOXELS.mean()) / VOXELS.std(), atol=1e-5)
    np.testing.assert_allclose(intensity.scale(VOXELS * 7.0 + 1000, Intensity(rule="zscore")), scaled, atol=1e-4)


def test_window() -> None:
    """A window is clipped and scaled to 0..1."""
    rule = intensity.fit(SegmentationHyperparameters(intensity="window", window=(-100, 500)), [])
    scaled = intensity.scale(np.array([-2000, -100, 200, 500, 3000]), rule)
    np.testing.assert_allclose(scaled, [0, 0, 0.5, 1, 1])


def test_dataset() -> None:
    """The data set's rule is percentiles, mean and deviation of foreground voxels alone."""
    cases = [(VOXELS, LABEL), (VOXELS + 50, LABEL), (VOXELS - 5000, np.zeros_like(LABEL))]
    rule = intensity.fit(SegmentationHyperparameters(intensity="dataset"), cases)
    foreground = np.concatenate([VOXELS[LABEL > 0], VOXELS[LABEL > 0] + 50]).astype(float)
    low, high = np.percentile(foreground, [0.5, 99.5])
    assert rule.low == pytest.approx(low)
    assert rule.high == pytest.approx(high)
    body = np.clip(foreground, low, high)
    expected = (np.clip(VOXELS, low, high) - body.mean()) / body.std()
    np.testing.assert_allclose(intensity.scale(VOXELS, rule), expected, atol=1e-5)


def test_dataset_weighs_patients_alike() -> None:
    """A patient with ten times the foreground doesn't rule the statistics."""
    small = (np.zeros((25, 20, 20)), np.ones((25, 20, 20)))
    large = (np.ones((50, 40, 50)), np.ones((50, 40, 50)))
    rule = intensity.fit(SegmentationHyperparameters(intensity="dataset"), [small, large])
    assert rule.mean == pytest.approx(0.5)


def test_dataset_without_foreground() -> None:
    """Without any foreground there is nothing to measure, and the error says so."""
    with pytest.raises(DataError, match="no label contains foreground"):
        intensity.fit(SegmentationHyperparameters(intensity="dataset"), [(VOXELS, np.zeros_like(LABEL))])


def test_constant_volume() -> None:
    """A volume without contrast becomes zeros, not NaN."""
    assert not intensity.scale(np.full((3, 3, 3), 7), Intensity(rule="zscore")).any()


def test_incomplete_rule() -> None:
    """A model.json whose rule lacks its numbers is refused by name."""
    with pytest.raises(DataError, match=r"model\.json: intensity rule window needs low"):
        intensity.scale(VOXELS, Intensity(rule="window", low=0.0))
