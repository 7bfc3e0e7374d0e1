"""Agreement of two label maps: Dice and the 95th percentile Hausdorff distance, in float64. Torch-free.

Conventions for empty masks, per case and class:

- both empty: there is nothing to agree on; Dice and HD95 are NaN, and means leave the case out;
- one empty: Dice is 0 and HD95 infinite; means of HD95 are over finite values, and infinite ones are counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

Mask = NDArray[np.bool_]
Points = NDArray[np.float64]
PERCENTILE = 95.0


def dice(truth: Mask, prediction: Mask) -> float:
    """Twice the overlap over the sum of both sizes.

    Args:
        truth: [X, Y, Z].
        prediction: [X, Y, Z], on the same grid.

    Returns:
        0 to 1; NaN where both are empty.
    """
    total = int(truth.sum()) + int(prediction.sum())
    return 2.0 * int((truth & prediction).sum()) / total if total else float("nan")


def hd95(truth: Mask, prediction: Mask, scale: NDArray[np.float64] | None = None) -> float:
    """The larger of the two directed 95th percentiles of distances between surfaces.

    A surface is the voxels of a mask with a face neighbour outside it; beyond the volume's border is outside. The
    definition is that of `monai.metrics.compute_hausdorff_distance(percentile=95)`.

    Args:
        truth: [X, Y, Z].
        prediction: [X, Y, Z], on the same grid.
        scale: [3, 3] matrix from voxel indices to distances (an affine's upper left part); None counts voxels.

    Returns:
        In the unit of `scale`; NaN where both are empty, infinity where one is.
    """
    if not truth.any() and not prediction.any():
        return float("nan")
    if not truth.any() or not prediction.any():
        return float("inf")
    matrix = np.eye(3) if scale is None else np.asarray(scale, dtype=np.float64)
    one, other = _surface(truth) @ matrix.T, _surface(prediction) @ matrix.T
    return max(_directed(one, other), _directed(other, one))


def per_class(
    truth: NDArray[Any], prediction: NDArray[Any], num_classes: int, scale: NDArray[np.float64] | None = None
) -> tuple[list[float], list[float]]:
    """Dice and HD95 of every foreground class.

    Args:
        truth: [X, Y, Z] label values.
        prediction: [X, Y, Z] label values, on the same grid.
        num_classes: The background, 0, included.
        scale: As `hd95` takes it.

    Returns:
        Two lists, for the classes 1 to `num_classes` - 1.
    """
    pairs = [(truth == label, prediction == label) for label in range(1, num_classes)]
    return [dice(t, p) for t, p in pairs], [hd95(t, p, scale) for t, p in pairs]


def _surface(mask: Mask) -> Points:
    """Voxel indices [N, 3] of the surface; only the mask's bounding box is eroded."""
    where = tuple(_extent(mask, axis) for axis in range(mask.ndim))
    inside = mask[where]
    corner = np.array([part.start for part in where], dtype=np.float64)
    points: Points = np.argwhere(inside & ~binary_erosion(inside)) + corner
    return points


def _extent(mask: Mask, axis: int) -> slice:
    others = tuple(other for other in range(mask.ndim) if other != axis)
    occupied = np.flatnonzero(mask.any(axis=others))
    return slice(int(occupied[0]), int(occupied[-1]) + 1)


def _directed(points: Points, surface: Points) -> float:
    distances, _ = cKDTree(surface).query(points)
    return float(np.percentile(distances, PERCENTILE))
