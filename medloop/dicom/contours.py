"""Label maps from RTSTRUCT: planar contours, filled on the slices of an image's stack. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.dicom.elements import integer, items, text
from medloop.dicom.files import read_dataset
from medloop.dicom.stacks import Stack
from medloop.imaging.files import FileError

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_TAGS = ("ROIContourSequence", "StructureSetROISequence")
NOT_PLANAR = 0.1
"""Slices by which the points of one contour may differ."""
MAX_POINTS = 10_000_000
Mask = NDArray[np.bool_]


def read_contour_masks(path: Path, stack: Stack) -> Iterator[tuple[int, Mask, str]]:
    """Fill the contours of an RTSTRUCT on an image's grid.

    A voxel is inside if its centre is (even-odd rule), so that a contour in another one is a hole.

    Args:
        path: The RTSTRUCT.
        stack: The image's slices.

    Yields:
        The structure's number, its mask [columns, rows, slices], and a warning or "".

    Raises:
        FileError: It is damaged, or its contours have too many points.
    """
    dataset = read_dataset(path, _TAGS)
    inverse = np.linalg.inv(stack.affine)
    num_points = 0
    for roi in items(dataset, "ROIContourSequence"):
        mask = np.zeros(stack.shape, np.bool_)
        warnings = list[str]()
        for contour in items(roi, "ContourSequence"):
            points = _points(path, contour)
            num_points += len(points)
            if num_points > MAX_POINTS:
                raise FileError(path, f"has contours of more than {MAX_POINTS} points; export fewer structures")
            warnings += _draw(mask, points @ inverse[:3, :3].T + inverse[:3, 3], text(contour, "ContourGeometricType"))
        warnings += _describe_gaps(mask)
        yield integer(roi, "ReferencedROINumber"), mask, "; ".join(dict.fromkeys(warnings))


def _points(path: Path, contour: Any) -> NDArray[np.float64]:
    """A contour's points [N, 3] in mm, RAS."""
    values = contour.get("ContourData")
    try:
        points = np.array(values if values is not None else [], np.float64).reshape(-1, 3)
    except (TypeError, ValueError):
        raise FileError(path, "ContourData is malformed; export it again") from None
    if not np.isfinite(points).all():
        raise FileError(path, "ContourData is malformed; export it again")
    return points * (-1, -1, 1)


def _draw(mask: Mask, points: NDArray[np.float64], kind: str) -> Iterator[str]:
    """Invert the voxels inside a contour; a contour that can't be filled is skipped, with a warning.

    Args:
        mask: [columns, rows, slices].
        points: In voxels [N, 3].
        kind: ContourGeometricType.
    """
    if kind.upper() not in _CLOSED or len(points) < 3:
        yield (
            f"contours of type {kind or 'unknown'} with {len(points)} points are left out"
            if len(points) < 3
            else (f"contours of type {kind or 'unknown'} are left out")
        )
        return
    heights = points[:, 2]
    if np.ptp(heights) > NOT_PLANAR:
        yield "contours that are not in the plane of a slice are left out"
        return
    index = round(float(heights.mean()))
    if 0 <= index < mask.shape[2]:
        fill(mask[:, :, index], points[:, :2])
    else:
        yield "contours outside the image are left out"


def fill(mask: Mask, points: NDArray[np.float64]) -> None:
    """Invert the pixels of a mask whose centres are inside a polygon, by the even-odd rule.

    Args:
        mask: [columns, rows].
        points: Corners in pixels [N, 2]: column, row.
    """
    start, end = points, np.roll(points, -1, axis=0)
    low = max(0, int(np.ceil(points[:, 1].min())))
    high = min(mask.shape[1] - 1, int(np.floor(points[:, 1].max())))
    columns = np.arange(mask.shape[0])
    for row in range(low, high + 1):
        crosses = (start[:, 1] <= row) != (end[:, 1] <= row)
        if not crosses.any():
            continue
        first, second = start[crosses], end[crosses]
        share = (row - first[:, 1]) / (second[:, 1] - first[:, 1])
        edges = np.sort(first[:, 0] + share * (second[:, 0] - first[:, 0]))
        mask[:, row] ^= np.searchsorted(edges, columns, side="right") % 2 == 1


def _describe_gaps(mask: Mask) -> Iterator[str]:
    """Warn of slices without a contour between slices with one."""
    used = np.flatnonzero(mask.any(axis=(0, 1)))
    if len(used) > 1 and (missing := int(used[-1] - used[0] + 1 - len(used))):
        yield f"has no contour on {missing} slices between its first and last: these slices are background"
