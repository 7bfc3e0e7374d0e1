"""Linear up-sampling by two as shifts and sums.

PyTorch's trilinear kernel has no deterministic gradient on a GPU (it adds atomically); this one is made of operations
that have one, and that torch.compile fuses.
"""

from __future__ import annotations

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
