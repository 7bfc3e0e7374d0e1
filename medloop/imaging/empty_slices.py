"""Slices of a volume that seem lost: all voxels have one value. Torch-free."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medloop.imaging.files import Volume

SAMPLED = 16
"""Voxels of each edge of a slice that are compared first, so that sound volumes cost next to nothing."""
AXES = "xyz"
NEARLY = 0.99
"""Part of the largest voxel edge from which an edge is as large: of such axes the last is that of the slices."""


def describe_empty_slices(volume: Volume) -> str:
    """Describe the slices of one value that are between others, or next to a slice without such a margin.

    The axis is that of the largest voxel edge. The empty slices around a skull-stripped brain are none of these: the
    slice next to them has a margin of the same value.

    Returns:
        The warning; "" if there are no such slices.
    """
    edges = np.array(volume.spacing)
    axis = int(np.flatnonzero(edges >= NEARLY * edges.max())[-1])
    lost = _lost_slices(np.moveaxis(volume.voxels, axis, 0))
    if not lost:
        return ""
    shown = ", ".join(str(k) for k in lost[:5]) + (", ..." if len(lost) > 5 else "")
    count = f"{len(lost)} slice{'s' if len(lost) > 1 else ''}"
    return f"has {count} of one value ({AXES[axis]} = {shown}); check that no slice was lost"


def _lost_slices(slices: NDArray[np.generic]) -> list[int]:
    rows, columns = (max(1, edge // SAMPLED) for edge in slices.shape[1:])
    empty = (slices[:, ::rows, ::columns] == slices[:, :1, :1]).all(axis=(1, 2))
    filled = np.flatnonzero(~empty)
    if filled.size in (0, len(slices)):
        return []
    first, last = int(filled[0]), int(filled[-1])
    between = [k for k in range(first, last) if empty[k]]
    outside = [
        k
        for end, indices in ((first, range(first)), (last, range(last + 1, len(slices))))
        for k in indices
        if not _is_margin(slices[k], slices[end])
    ]
    return [k for k in sorted(between + outside) if (slices[k] == slices[k, 0, 0]).all()]


def _is_margin(empty: NDArray[np.generic], neighbour: NDArray[np.generic]) -> bool:
    """True if most of the neighbouring slice has the empty slice's value."""
    return bool((neighbour == empty[0, 0]).mean() > 0.5)
