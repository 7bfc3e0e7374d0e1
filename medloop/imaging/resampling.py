"""Resampling where torch's own is slow or not deterministic: grids of affine maps, and linear up-sampling by two.

Up-sampling is made of shifts and sums: PyTorch's trilinear kernel has no deterministic gradient on a
GPU (it adds atomically); these operations have one, and torch.compile fuses them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def upsample_linear(images: Tensor) -> Tensor:
    """Double every spatial axis, as `interpolate(scale_factor=2, mode=..., align_corners=False)` does.

    A new voxel lies a quarter of an old one from its nearest: it takes three quarters of that and a quarter of the
    next; beyond the border the volume has its border's values.

    Args:
        images: [N, C, *spatial].
    """
    for axis in range(2, images.ndim):
        images = _double(images, axis)
    return images


def _double(images: Tensor, axis: int) -> Tensor:
    size = images.shape[axis]
    first, last = images.narrow(axis, 0, 1), images.narrow(axis, size - 1, 1)
    before = torch.cat([first, images.narrow(axis, 0, size - 1)], dim=axis)
    behind = torch.cat([images.narrow(axis, 1, size - 1), last], dim=axis)
    even, odd = torch.lerp(before, images, 0.75), torch.lerp(behind, images, 0.75)
    return torch.stack([even, odd], dim=axis + 1).flatten(axis, axis + 1)


class LinearUpsample(nn.Module):
    """`upsample_linear` as a module without weights."""

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, *spatial] to twice the edges."""
        return upsample_linear(images)


def replace_upsampling(model: nn.Module) -> None:
    """Put `LinearUpsample` instead of every linear nn.Upsample by two; names of weights are unchanged."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Upsample) and _doubles(child):
                setattr(module, name, LinearUpsample())


def _doubles(layer: nn.Upsample) -> bool:
    factor = layer.scale_factor
    factors = factor if isinstance(factor, tuple) else (factor,)
    linear = layer.mode in ("linear", "bilinear", "trilinear") and not layer.align_corners
    return linear and all(value == 2 for value in factors)


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
    unit_shape = [1] * num_axes
    grid = matrices[:, :, -1].reshape(-1, num_axes, *unit_shape)
    # The last axis first: what is added up stays small for longest.
    for axis in reversed(range(num_axes)):
        size = shape[axis]
        positions = (torch.arange(size, device=matrices.device, dtype=matrices.dtype) * 2 + 1) / size - 1
        column = matrices[:, :, num_axes - 1 - axis].reshape(-1, num_axes, *unit_shape)
        grid = grid + column * positions.view(*[-1 if k == axis else 1 for k in range(num_axes)])
    return grid.movedim(1, -1)
