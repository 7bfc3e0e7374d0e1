"""Intensity rules, against their definitions in NumPy."""

from __future__ import annotations

from collections.abc import Callable

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


ROBUST = intensity.fit(SegmentationHyperparameters(), [])
PLAIN = intensity.fit(SegmentationHyperparameters(zscore_percentiles=None), [])
BODY = RNG.normal(300, 80, (32, 30, 28))


def hot(voxels: np.ndarray) -> np.ndarray:
    """Five hot voxels."""
    voxels[3:8, 4, 5] = 1e6
    return voxels


def metal(voxels: np.ndarray) -> np.ndarray:
    """A block of metal, and its shadow."""
    voxels[10:14, 10:14, 10:12] = 30_000
    voxels[10:14, 10:14, 12:14] = -30_000
    return voxels


def fill(voxels: np.ndarray) -> np.ndarray:
    """A fourth outside the field of view."""
    voxels[:8] = -2000
    return voxels


def saturated_fill(voxels: np.ndarray) -> np.ndarray:
    """The same with the highest value of the type, and one hot voxel."""
    voxels[:8] = 65_535
    voxels[20, 20, 20] = -1e6
    return voxels


@pytest.mark.parametrize("spoil", [hot, metal, fill, saturated_fill])
def test_extreme_voxels_change_no_other(spoil: Callable[[np.ndarray], np.ndarray]) -> None:
    """The default z-score of all other voxels is that of the volume without them; the plain one's collapses."""
    spoilt = spoil(BODY.copy())
    body = spoilt == BODY
    clean = intensity.scale(BODY, PLAIN)[body]
    scaled = intensity.scale(spoilt, ROBUST)
    np.testing.assert_allclose(scaled[body], clean, atol=0.1)
    assert np.isfinite(scaled).all()
    assert np.abs(scaled).max() < 25
    assert intensity.scale(spoilt, PLAIN)[body].std() < 0.6 * clean.std()


def test_extreme_voxels_keep_their_order() -> None:
    """What is beyond the limit grows by its logarithm: nothing is clipped to one value."""
    voxels = BODY.copy()
    extreme = [1e3, 2e3, 1e4, 1e6, 3e8]
    voxels[0, 0, :5] = extreme
    voxels[1, 0, :5] = [-value for value in extreme]
    scaled = intensity.scale(voxels, ROBUST)
    assert (np.diff(scaled[0, 0, :5]) > 0).all()
    assert (np.diff(scaled[1, 0, :5]) < 0).all()


@pytest.mark.parametrize(
    ("background", "structure"), [(0.0, 1000.0), (RNG.normal(10, 2, (20, 20, 20)), 190.0)], ids=["constant", "noise"]
)
@pytest.mark.parametrize("edge", [1, 3, 10])
def test_a_small_or_saturated_structure_stays(background: np.ndarray | float, structure: float, edge: int) -> None:
    """One voxel, a third of a percent, or an eighth of one value: the contrast of all that there is to see stays."""
    voxels = np.zeros((20, 20, 20)) + background
    voxels[:edge, :edge, :edge] = structure
    scaled = intensity.scale(voxels, ROBUST)
    assert scaled[:edge, :edge, :edge].min() > scaled[edge:].max() + 1


@pytest.mark.parametrize("factor", [1e-9, 1e-3, 1.0, 1e6])
def test_any_unit(factor: float) -> None:
    """Diffusion in m2/s is scaled as in mm2/s."""
    expected = intensity.scale(BODY, ROBUST)
    np.testing.assert_allclose(intensity.scale(BODY * factor, ROBUST), expected, atol=1e-3)


def test_constant_volumes_in_any_rule() -> None:
    """Zeros, for each value that float32 rounds."""
    for value in (0.0, 0.1, -7.0, 1e-12, 1e30):
        assert not intensity.scale(np.full((5, 5, 5), value), ROBUST).any()


@pytest.mark.slow
def test_large_volumes_are_sampled_evenly() -> None:
    """Every plane of every axis is in the sample, also where the volume is a multiple of it in size."""
    voxels = np.broadcast_to(np.linspace(0, 1, 32)[:, None, None], (32, 512, 512)).astype(np.float32)
    np.testing.assert_allclose(intensity.scale(voxels, ROBUST), intensity.scale(voxels, PLAIN), atol=0.05)


def test_older_models_keep_their_rule() -> None:
    """model.json of version 3 names no percentiles: all voxels count."""
    old = Intensity.model_validate_json('{"rule": "zscore", "low": null, "high": null, "mean": null, "std": null}')
    spoilt = hot(BODY.copy())
    np.testing.assert_array_equal(intensity.scale(spoilt, old), intensity.scale(spoilt, PLAIN))
    expected = (spoilt.astype(np.float32) - spoilt.mean()) / spoilt.std()
    np.testing.assert_allclose(intensity.scale(spoilt, old), expected, atol=1e-4)
    assert (ROBUST.percentiles, PLAIN.percentiles) == ((0.5, 99.5), None)


def test_one_hot_voxel_of_foreground_in_the_data_set() -> None:
    """The data set's mean and deviation are those of clipped values."""
    label = np.ones(BODY.shape, dtype=np.uint8)
    clean = intensity.fit(SegmentationHyperparameters(intensity="dataset"), [(BODY, label)])
    spoilt = intensity.fit(SegmentationHyperparameters(intensity="dataset"), [(hot(BODY.copy()), label)])
    assert spoilt.std == pytest.approx(clean.std, rel=0.05)


@pytest.mark.parametrize("percentiles", [(99, 1), (5, 5), (-1, 99), (0, 101)])
def test_percentiles_that_are_none(percentiles: tuple[float, float]) -> None:
    """Refused by name before training."""
    with pytest.raises(ValueError, match="zscore_percentiles"):
        SegmentationHyperparameters(zscore_percentiles=percentiles)


def test_a_zero_background_is_part_of_the_volume() -> None:
    """Skull-stripped brains of any contrast are scaled alike: none has a background that is taken for a fill value."""
    for deviation in (200, 20, 2):
        brain = RNG.normal(800, deviation, BODY.shape)
        brain[:12] = 0
        np.testing.assert_allclose(intensity.scale(brain, ROBUST), intensity.scale(brain, PLAIN), atol=0.05)


@pytest.mark.parametrize(
    ("offset", "kind"),
    [(2**30, np.int32), (2**31, np.uint32), (-(10**9), np.int32), (1e9, np.float64), (-1e7, np.float64)],
)
@pytest.mark.parametrize("rule", ["zscore", "window"])
def test_contrast_far_from_zero_stays(offset: float, kind: type, rule: str) -> None:
    """float32, in which training computes, has steps of 64 at a thousand million."""
    near = np.random.default_rng(0).integers(0, 50, (9, 8, 7))
    far = (near.astype(np.float64) + offset).astype(kind)
    rules = [
        Intensity(rule="zscore", percentiles=(1, 99))
        if rule == "zscore"
        else Intensity(rule="window", low=low + 10, high=low + 40, mean=low + 10, std=30)
        for low in (0, offset)
    ]
    expected = intensity.scale(near.astype(np.int32), rules[0])
    assert np.ptp(expected) > 0.9
    np.testing.assert_allclose(intensity.scale(far, rules[1]), expected, atol=1e-5)
