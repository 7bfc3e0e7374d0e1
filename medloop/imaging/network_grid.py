"""The grid on which a network sees a volume: voxel sizes and shape, from the header alone. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medloop.errors import DataError
from medloop.imaging.files import Volume

if TYPE_CHECKING:
    from medloop.documents.model import VolumePreprocessing
    from medloop.documents.quantities import Triple

Shape = tuple[int, int, int]
MAX_VOXELS = 2**30
"""Larger than this, a resampled volume is a header with a wrong voxel size: 4 GiB of float32."""


@dataclass(frozen=True)
class VolumeGrid:
    """Shape and voxel size of a volume whose axes are in the closest order to R, A, S.

    Attributes:
        shape: Edges in voxels.
        spacing: Edges of a voxel, in mm, or without a unit where the header specifies none.
        file: Name of the volume's file; "" if it has none.
    """

    shape: Shape
    spacing: Triple
    file: str = ""

    @property
    def num_voxels(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)


def grid_of(volume: Volume, file: str = "") -> VolumeGrid:
    """The grid of a volume in RAS; its voxels are not read.

    Raises:
        DataError: The affine has no orientation.
    """
    sources = np.argsort(find_orientation(volume.affine)[:, 0])
    spacing, shape = volume.spacing, volume.voxels.shape
    x, y, z = (int(axis) for axis in sources)
    return VolumeGrid((shape[x], shape[y], shape[z]), (spacing[x], spacing[y], spacing[z]), file)


def find_orientation(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nibabel's orientation of an affine: for each axis, the axis of R, A, S closest to it, and its sign.

    Raises:
        DataError: It has none: it is singular or not finite.
    """
    import nibabel as nib  # which most commands don't need

    valid = np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 0
    orientation: NDArray[np.float64] = nib.io_orientation(affine) if valid else np.full((3, 2), np.nan)
    if not np.isfinite(orientation).all():
        raise DataError("the affine is singular: the header gives no orientation; write the file with a valid affine")
    return orientation


def target_shape(shape: Shape, spacing: Triple, rule: VolumePreprocessing) -> Shape:
    """The shape that preprocessing gives a RAS volume: `rule.size`, or what keeps the extent at `rule.spacing`.

    Raises:
        DataError: The header's voxel size would make the volume enormous, or model.json's rule lacks a number.
    """
    if rule.mode == "resize" and rule.size is not None:
        return rule.size
    if rule.spacing is None:
        raise DataError(f"model.json: mode {rule.mode} lacks its size or spacing; give training's own file")
    if reason := too_many_voxels(VolumeGrid(shape, spacing), rule.spacing):
        raise DataError(f"{reason}: too many; correct the header's voxel size")
    x, y, z = (max(1, round(edge)) for edge in _edges(VolumeGrid(shape, spacing), rule.spacing))
    return x, y, z


def too_many_voxels(grid: VolumeGrid, spacing: Triple) -> str:
    """Describe a grid that has more than MAX_VOXELS at another voxel size; empty if it has not."""
    edges = _edges(grid, spacing)
    # One edge at a time first: a header's voxel size may be anything, infinity included.
    if all(edge <= MAX_VOXELS for edge in edges) and math.prod(max(1, round(edge)) for edge in edges) <= MAX_VOXELS:
        return ""
    return f"voxels of {size_text(grid.spacing)}, resampled to {size_text(spacing)}, are {size_text(edges)}"


def median_spacing(spacings: Sequence[Triple]) -> Triple:
    """The median of each edge: the voxel size that training takes by default, of its volumes."""
    x, y, z = (float(median(sizes)) for sizes in zip(*spacings, strict=True))
    return x, y, z


def size_text(edges: Sequence[float]) -> str:
    """Edges as text: `0.5 x 0.5 x 3`."""
    return " x ".join(f"{edge:.4g}" for edge in edges)


def _edges(grid: VolumeGrid, spacing: Triple) -> list[float]:
    return [n * old / new for n, old, new in zip(grid.shape, grid.spacing, spacing, strict=True)]
