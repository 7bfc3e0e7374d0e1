"""Dice and HD95 against independent implementations and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

from medloop.imaging.metrics import dice, hd95, per_class


def blob(seed: int, threshold: float = 0.0, shape: tuple[int, int, int] = (24, 30, 18)) -> np.ndarray:
    """A random smooth mask that touches the border here and there."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2.5)
    return noise > threshold


def hd95_by_distance_transform(truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...]) -> float:
    """The same definition by another algorithm: Euclidean distance transforms of the whole volume."""
    edges = [mask & ~binary_erosion(mask) for mask in (truth, prediction)]
    away = [distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    return max(np.percentile(away[1][edges[0]], 95), np.percentile(away[0][edges[1]], 95))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.7, 3.0)])
def test_hd95_equals_distance_transforms(seed: int, spacing: tuple[float, ...]) -> None:
    """The surface-point search gives what whole-volume distance transforms give, isotropic or not."""
    truth, prediction = blob(seed), blob(seed + 100, 0.05)
    expected = hd95_by_distance_transform(truth, prediction, spacing)
    assert hd95(truth, prediction, np.diag(spacing)) == pytest.approx(expected, abs=1e-9)


def test_distances_by_hand() -> None:
    """Two single voxels, 3 apart along x and 4 along y, at 1 x 2 x 1 spacing: sqrt(9 + 64)."""
    truth, prediction = np.zeros((2, 8, 8, 8), dtype=bool)
    truth[1, 1, 1] = prediction[4, 5, 1] = True
    assert hd95(truth, prediction) == pytest.approx(5.0)
    assert hd95(truth, prediction, np.diag([1.0, 2.0, 1.0])) == pytest.approx(math.sqrt(73))
    assert dice(truth, prediction) == 0.0


def test_rotated_grid_keeps_distances() -> None:
    """An oblique affine's rotation changes no distance."""
    angle = 0.4
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    truth, prediction, spacing = blob(1), blob(2), np.diag([0.5, 0.7, 3.0])
    assert hd95(truth, prediction, rotation @ spacing) == pytest.approx(hd95(truth, prediction, spacing))


def test_dice_by_hand() -> None:
    """Half of one mask in the other: 2 * 2 / (4 + 2)."""
    truth, prediction = np.zeros((2, 4, 4, 4), dtype=bool)
    truth[0, :, 0] = True
    prediction[0, :2, 0] = True
    assert dice(truth, prediction) == pytest.approx(2 / 3)


def test_empty_masks() -> None:
    """Both empty is undefined; one empty is the worst there is."""
    empty, full = np.zeros((3, 3, 3), dtype=bool), np.ones((3, 3, 3), dtype=bool)
    assert math.isnan(dice(empty, empty))
    assert math.isnan(hd95(empty, empty))
    assert dice(full, empty) == dice(empty, full) == 0.0
    assert hd95(full, empty) == hd95(empty, full) == math.inf
    assert dice(full, full) == 1.0
    assert hd95(full, full) == 0.0


def test_per_class_leaves_out_the_background() -> None:
    """Two foreground classes of three give two values each."""
    truth = np.zeros((4, 4, 4), dtype=np.uint8)
    truth[:2], truth[3] = 1, 2
    prediction = truth.copy()
    prediction[3] = 0
    scores, distances = per_class(truth, prediction, 3)
    assert scores == [1.0, 0.0]
    assert distances == [0.0, math.inf]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_monai(seed: int) -> None:
    """MONAI's float32 metrics give the same to 1e-4."""
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    truth, prediction, spacing = blob(seed), blob(seed + 7, -0.05), (0.8, 0.8, 2.5)
    one_hot = [torch.from_numpy(np.stack([~mask, mask]))[None].float() for mask in (prediction, truth)]
    distance = metrics.compute_hausdorff_distance(*one_hot, percentile=95, spacing=spacing)
    overlap = metrics.compute_dice(*one_hot, include_background=False)
    assert hd95(truth, prediction, np.diag(spacing)) == pytest.approx(float(distance), abs=1e-4)
    assert dice(truth, prediction) == pytest.approx(float(overlap), abs=1e-4)
