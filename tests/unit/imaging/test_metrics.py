"""Agreement of masks against independent implementations (MONAI, plain NumPy, SciPy's transforms) and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

from medloop.imaging.metrics import ClassScores, Grid, Lesions, Surfaces, dice, lesions, per_class, surface, surfaces

SHAPE = (12, 10, 9)
SPACING = (0.5, 0.7, 3.0)


def blob(seed: int, threshold: float = 0.0, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """A random smooth mask that touches the border here and there."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    return noise > threshold


def mask_of(*where: tuple[int | slice, ...]) -> np.ndarray:
    """A mask that holds these voxels."""
    mask = np.zeros(SHAPE, dtype=bool)
    for index in where:
        mask[index] = True
    return mask


FULL = np.ones(SHAPE, dtype=bool)
PAIRS = {
    "random": (blob(0), blob(100, 0.02)),
    "sparse": (blob(1, 0.1), blob(101, 0.15)),
    "the same": (blob(2), blob(2)),
    "one voxel each": (mask_of((1, 1, 1)), mask_of((4, 5, 1))),
    "one voxel in full": (mask_of((6, 5, 4)), FULL),
    "full": (FULL, FULL),
    "in corners": (mask_of((0, 0, 0)), mask_of((-1, -1, -1))),
    "at the border": (
        mask_of((slice(0, 4), slice(None), slice(None))),
        mask_of((slice(0, 6), slice(2, 9), slice(3, 9))),
    ),
    "one slice": (mask_of((slice(2, 9), slice(1, 8), 4)), mask_of((slice(3, 10), slice(1, 9), 4))),
}
GRIDS = {"voxels": np.eye(3), "anisotropic": np.diag(SPACING)}


def brute_surface(mask: np.ndarray) -> np.ndarray:
    """Indices [N, 3] of voxels that lack one of six neighbours, by looking at every one."""
    padded = np.pad(mask, 1)
    steps = [step for axis in range(3) for step in (np.eye(3, dtype=int)[axis], -np.eye(3, dtype=int)[axis])]
    return np.array([p for p in np.argwhere(mask) if not all(padded[tuple(p + 1 + step)] for step in steps)])


def brute_distances(truth: np.ndarray, prediction: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All distances between all surface voxels, and the least of each row and column."""
    expected, predicted = (brute_surface(mask) @ scale.T for mask in (truth, prediction))
    table = np.sqrt(((expected[:, None] - predicted[None]) ** 2).sum(axis=2))
    return table.min(axis=1), table.min(axis=0)


def brute_components(mask: np.ndarray) -> list[set[tuple[int, ...]]]:
    """Voxels of each component, by walking from voxel to voxel over faces, edges and corners."""
    left, components = {tuple(int(i) for i in point) for point in np.argwhere(mask)}, []
    while left:
        component, edge = set(), [left.pop()]
        while edge:
            point = edge.pop()
            component.add(point)
            near = [q for q in left if max(abs(a - b) for a, b in zip(point, q, strict=True)) == 1]
            left.difference_update(near)
            edge += near
        components.append(component)
    return components


@pytest.mark.parametrize("scale", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize(("truth", "prediction"), PAIRS.values(), ids=PAIRS)
def test_surfaces_equal_brute_force(truth: np.ndarray, prediction: np.ndarray, scale: np.ndarray) -> None:
    """HD95, average distance and surface Dice are those of all pairs of surface voxels, to 1e-9."""
    there, back = brute_distances(truth, prediction, scale)
    measured = surfaces(truth, prediction, scale)
    assert measured.hd95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), abs=1e-9)
    assert measured.average == pytest.approx((there.sum() + back.sum()) / (len(there) + len(back)), abs=1e-9)
    for tolerance in (0.0, 0.9, 3.0):
        near = (there <= tolerance).sum() + (back <= tolerance).sum()
        assert measured.dice(tolerance) == pytest.approx(near / (len(there) + len(back)), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_distances_equal_distance_transforms(seed: int) -> None:
    """On a larger anisotropic grid SciPy's distance transforms of the whole volume give the same."""
    masks = blob(seed, shape=(24, 30, 18)), blob(seed + 100, 0.02, shape=(24, 30, 18))
    edges = [mask & ~binary_erosion(mask) for mask in masks]
    away = [distance_transform_edt(~edge, sampling=SPACING) for edge in edges]
    measured = surfaces(*masks, np.diag(SPACING))
    assert [surface(mask).tolist() for mask in masks] == [edge.tolist() for edge in edges]
    assert measured.from_truth == pytest.approx(away[1][edges[0]], abs=1e-9)
    assert measured.from_prediction == pytest.approx(away[0][edges[1]], abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_lesions_equal_a_walk(seed: int) -> None:
    """Components over faces, edges and corners, and those of each mask without a voxel of the other."""
    truth, prediction = (np.random.default_rng(seed + k).random((7, 6, 5)) > 0.9 for k in (0, 50))
    components, predicted_components = brute_components(truth), brute_components(prediction)
    true, predicted = set().union(*components), set().union(*predicted_components)
    expected = Lesions(
        len(components),
        sum(not c & predicted for c in components),
        len(predicted_components),
        sum(not c & true for c in predicted_components),
    )
    assert lesions(truth, prediction) == expected


def test_lesions_by_hand() -> None:
    """Voxels that share a corner are one lesion; one next to a prediction, but not in it, is missed."""
    truth = mask_of((1, 1, 1), (2, 2, 2), (6, 6, 6))
    prediction = mask_of((2, 2, 2), (6, 6, 7), (9, 1, 1))
    assert lesions(truth, prediction) == Lesions(num_true=2, num_missed=1, num_predicted=3, num_false=2)


def test_distances_by_hand() -> None:
    """Two single voxels, 3 apart along x and 4 along y, at 1 x 2 x 1 spacing: sqrt(9 + 64)."""
    truth, prediction = PAIRS["one voxel each"]
    assert surfaces(truth, prediction, np.eye(3)).hd95 == pytest.approx(5.0)
    assert surfaces(truth, prediction, np.diag([1.0, 2.0, 1.0])).average == pytest.approx(math.sqrt(73))
    assert dice(truth, prediction) == 0.0


def test_the_larger_percentile_counts() -> None:
    """HD95 is the larger of two directed percentiles, whichever side it is on; the average weighs voxels alike."""
    near, far = np.zeros(3), np.arange(1.0, 102.0)
    assert Surfaces(near, far).hd95 == Surfaces(far, near).hd95 == pytest.approx(96.0)
    assert Surfaces(near, far).average == pytest.approx(far.sum() / 104)


def test_rotated_grid_keeps_distances() -> None:
    """An oblique affine's rotation changes neither distances nor volumes nor the diagonal."""
    rotation = np.array([[np.cos(0.4), -np.sin(0.4), 0], [np.sin(0.4), np.cos(0.4), 0], [0, 0, 1.0]])
    truth, prediction = (mask.astype(np.uint8) for mask in PAIRS["random"])
    plain, turned = (
        per_class(truth, prediction, 2, Grid(SHAPE, matrix), 1.0)[0]
        for matrix in (np.diag(SPACING), rotation @ np.diag(SPACING))
    )
    assert turned.hd95 == pytest.approx(plain.hd95)
    assert turned.average_surface_distance == pytest.approx(plain.average_surface_distance)
    assert turned.volume_truth == pytest.approx(plain.volume_truth)
    assert Grid(SHAPE, rotation @ np.diag(SPACING)).diagonal == pytest.approx(Grid(SHAPE, np.diag(SPACING)).diagonal)


def test_volumes_and_diagonal() -> None:
    """Volumes are in ml where lengths are mm; the diagonal runs between the centres of opposite corners' voxels."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[:10, :10, :5] = 1
    for matrix, volume, diagonal in (
        (None, 500.0, math.sqrt(11**2 + 9**2 + 8**2)),
        (np.diag(SPACING), 500 * 0.5 * 0.7 * 3 / 1000, math.sqrt(5.5**2 + 6.3**2 + 24**2)),
    ):
        scores = per_class(labels, labels, 2, Grid(SHAPE, matrix), 1.0)[0]
        assert scores.volume_truth == scores.volume_predicted == pytest.approx(volume)
        assert Grid(SHAPE, matrix).diagonal == pytest.approx(diagonal)


def test_diagonal_of_a_sheared_grid_is_the_longer() -> None:
    """Where axes lean to one another a grid has several diagonals, and no distance in it is longer than the longest."""
    assert Grid((3, 3, 1), np.array([[1.0, -0.5, 0], [0, 1, 0], [0, 0, 1]])).diagonal == pytest.approx(
        np.hypot(2 + 1, 2)
    )


def test_empty_masks() -> None:
    """Both empty is undefined; one empty is a failure, as far off as the image reaches."""
    nothing, something = np.zeros(SHAPE, dtype=np.uint8), mask_of((1, 1, 1)).astype(np.uint8)
    grid = Grid(SHAPE)
    (neither,) = per_class(nothing, nothing, 2, grid, 1.0)
    assert all(math.isnan(v) for v in (neither.dice, neither.hd95, neither.average_surface_distance))
    assert math.isnan(neither.surface_dice)
    assert not neither.failed
    assert neither.lesions == Lesions()
    (missed,) = per_class(something, nothing, 2, grid, 1.0)
    assert missed == ClassScores(0.0, grid.diagonal, grid.diagonal, 0.0, 1.0, 0.0, Lesions(1, 1, 0, 0))
    (invented,) = per_class(nothing, something, 2, grid, 1.0)
    assert invented == ClassScores(0.0, grid.diagonal, grid.diagonal, 0.0, 0.0, 1.0, Lesions(0, 0, 1, 1))
    assert missed.failed
    assert invented.failed


def test_per_class_tells_classes_apart() -> None:
    """Each foreground class has its own scores, those of its own two masks cut out of the whole."""
    rng = np.random.default_rng(3)
    truth, prediction = (gaussian_filter(rng.standard_normal(SHAPE), 1.5) for _ in range(2))
    labels = [np.digitize(field, [-0.05, 0.05]).astype(np.uint8) for field in (truth, prediction)]
    for value, scores in enumerate(per_class(*labels, 3, Grid(SHAPE, np.diag(SPACING)), 1.0), start=1):
        masks = [labelled == value for labelled in labels]
        apart = surfaces(*masks, np.diag(SPACING))
        assert (scores.hd95, scores.average_surface_distance) == pytest.approx((apart.hd95, apart.average))
        assert (scores.dice, scores.surface_dice) == pytest.approx((dice(*masks), apart.dice(1.0)))
        assert scores.lesions == lesions(*masks)


def test_labels_of_any_type() -> None:
    """A label map that a header's scale made floating point scores as whole numbers do."""
    truth, prediction = (mask.astype(np.uint8) for mask in PAIRS["random"])
    grid = Grid(SHAPE)
    assert per_class(truth.astype(np.float64), prediction, 2, grid, 1.0) == per_class(truth, prediction, 2, grid, 1.0)


def test_dice_by_hand() -> None:
    """Half of one mask in the other: 2 * 2 / (4 + 2)."""
    truth, prediction = np.zeros((2, 4, 4, 4), dtype=bool)
    truth[0, :, 0] = True
    prediction[0, :2, 0] = True
    assert dice(truth, prediction) == pytest.approx(2 / 3)
    assert math.isnan(dice(truth & False, truth & False))


@pytest.mark.slow
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), SPACING])
def test_agrees_with_monai(spacing: tuple[float, ...]) -> None:
    """MONAI's float32 metrics give the same to 1e-4, on every pair of masks; surface Dice where it counts voxels."""
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    for name, (truth, prediction) in PAIRS.items():
        pair = [torch.from_numpy(np.stack([~mask, mask]))[None].float() for mask in (prediction, truth)]
        measured = surfaces(truth, prediction, np.diag(spacing))
        hd95 = monai.compute_hausdorff_distance(*pair, percentile=95, spacing=spacing)
        average = monai.compute_average_surface_distance(*pair, symmetric=True, spacing=spacing)
        near = monai.compute_surface_dice(*pair, class_thresholds=[0.9], spacing=spacing)
        overlap = monai.DiceMetric(include_background=False)(*pair)
        assert measured.hd95 == pytest.approx(float(hd95), abs=1e-4), name
        assert measured.average == pytest.approx(float(average), abs=1e-4), name
        assert measured.dice(0.9) == pytest.approx(float(near), abs=1e-4), name
        assert dice(truth, prediction) == pytest.approx(float(overlap), abs=1e-4), name
