"""Sampling grids of affine maps, for `grid_sample`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def affine_grid(matrices: Tensor, shape: Sequence[int]) -> Tensor:
    """Compute `torch.nn.functional.affine_grid` with align_corners=False, several times faster.

    It adds up one vector an axis, where torch multiplies matrices; and a sample's grid is the same to the last bit
    in every batch, so that no label's nearest voxel changes with the batch.

    Args:
        matrices: [N, D, D + 1]; coordinates are in the reverse of the axes' order (x, y, z, where the axes are
            z, y, x), from -1 to 1.
        shape: The D edges of the result, first axis first.

    Returns:
        [N, *shape, D]; in memory coordinates come first, which is what makes it fast.
    """
    num_axes = len(shape)
    ones = [1] * num_axes
    grid = matrices[:, :, -1].reshape(-1, num_axes, *ones)
    # The last axis first: what is added up stays small for longest.
    for axis in reversed(range(num_axes)):
        size = shape[axis]
        positions = (torch.arange(size, device=matrices.device, dtype=matrices.dtype) * 2 + 1) / size - 1
        column = matrices[:, :, num_axes - 1 - axis].reshape(-1, num_axes, *ones)
        grid = grid + column * positions.view(*[-1 if k == axis else 1 for k in range(num_axes)])
    return grid.movedim(1, -1)
