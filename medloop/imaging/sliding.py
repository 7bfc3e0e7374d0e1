"""Inference on a preprocessed volume: sliding windows with Gaussian blending, or the whole volume at once.

Windows, weights and padding are those of MONAI's `sliding_window_inference`. What differs is the work around the
network: weights are multiplied and added in one pass, the sum of weights is computed once for all mirrored volumes, and
the number of windows at once follows the device's memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product

import torch
from torch import Tensor
from torch.nn import functional

from medloop.documents.model import Inference

SPATIAL = (2, 3, 4)
SIGMA = 0.125
"""Width of the Gaussian that weights a window, in edges of the window."""
LEAST_WEIGHT = 1e-3
BYTES_PER_VOXEL = 2048
"""Most memory of a network for a voxel of its input without gradients: the largest here, SwinUNETR of width 48, takes
less in float32."""
MEMORY_SHARE = 0.5
"""Share of the GPU's free memory for windows."""
MAX_WINDOWS = 16
WINDOWS_ON_CPU = 2
"""A single window doesn't use torch's fast convolutions on a CPU; more than two are no faster
(docs/measurements.md)."""
NetworkCall = Callable[[Tensor], Tensor]
Shape = tuple[int, int, int]
Window = tuple[slice, slice, slice]


def infer_logits(
    model: NetworkCall, image: Tensor, rule: Inference, *, num_windows_per_batch: int | None = None, even: bool = False
) -> Tensor:
    """Run the network over a preprocessed volume.

    Logits are blended, not probabilities: so they serve the loss too, and confident windows weigh more. A volume
    smaller than the patch is padded with zeros, as in training.

    Args:
        model: Takes [N, 1, x, y, z], gives [N, C, x, y, z].
        image: float32 [x, y, z], on the model's device.
        rule: model.json's.
        num_windows_per_batch: Windows in a run of the network; None takes what fits the device.
        even: Fill the last run up with zeros, so that all runs have one shape: a compiled network is compiled once.

    Returns:
        float32 [C, x, y, z].
    """
    batch = image[None, None]
    plan = None if rule.patch_size is None else plan_windows(image, rule.patch_size, rule.overlap)
    number = num_windows_per_batch or max_windows_per_batch(rule.patch_size or (1, 1, 1), image.device)

    def infer(volume: Tensor) -> Tensor:
        return _forward(model, volume) if plan is None else _blend(model, volume, plan, number, even)

    logits = infer(batch)
    if not rule.mirroring:
        return logits[0]
    mirrors = [axes for count in (1, 2, 3) for axes in combinations(SPATIAL, count)]
    for axes in mirrors:
        logits += infer(batch.flip(axes)).flip(axes)
    return logits[0] / (len(mirrors) + 1)


@dataclass(frozen=True)
class WindowPlan:
    """Positions and weights of windows in a volume.

    Args:
        padding: As `functional.pad` takes it: what a volume smaller than the patch is filled up with.
        windows: Of the padded volume.
        weights: [x, y, z] of a window's voxels.
        total: [X, Y, Z] sum of the weights of all windows, at each voxel of the padded volume.
    """

    padding: tuple[int, ...]
    windows: Sequence[Window]
    weights: Tensor
    total: Tensor


def plan_windows(image: Tensor, patch: Shape, overlap: float) -> WindowPlan:
    """Lay windows over a volume [x, y, z]: the last along an axis ends where the volume does."""
    missing = [max(0, edge - size) for edge, size in zip(patch, image.shape, strict=True)]
    padding = tuple(side for gap in reversed(missing) for side in (gap // 2, gap - gap // 2))
    shape = [max(edge, size) for edge, size in zip(patch, image.shape, strict=True)]
    starts = [_starts(size, edge, overlap) for size, edge in zip(shape, patch, strict=True)]
    windows = [(slice(x, x + patch[0]), slice(y, y + patch[1]), slice(z, z + patch[2])) for x, y, z in product(*starts)]
    weights = _gaussian(patch, image.device)
    total = torch.zeros(shape, device=image.device)
    for window in windows:
        total[window] += weights
    return WindowPlan(padding, windows, weights, total)


def max_windows_per_batch(patch: Shape, device: torch.device) -> int:
    """Number of windows in a run of the network."""
    if device.type != "cuda":
        return WINDOWS_ON_CPU
    free, _ = torch.cuda.mem_get_info(device)
    # Memory that the allocator reserves without using it is free as well.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    fitting = min(MAX_WINDOWS, int(MEMORY_SHARE * free / (BYTES_PER_VOXEL * math.prod(patch))))
    # A power of two: free memory varies a little, and each number is another shape, which kernels are chosen for.
    return 1 << max(0, fitting.bit_length() - 1)


def _starts(size: int, edge: int, overlap: float) -> list[int]:
    step = max(1, int(edge * (1 - overlap)))
    count = -(-(size - edge) // step) + 1
    return [min(number * step, size - edge) for number in range(count)]


@lru_cache(maxsize=8)
def _gaussian(patch: Shape, device: torch.device) -> Tensor:
    axes = []
    for edge in patch:
        offsets = torch.arange(edge, dtype=torch.float32) - (edge - 1) / 2
        axes.append(torch.exp(-(offsets**2) / (2 * (SIGMA * edge) ** 2)))
    weights = axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]
    # Far from a window's centre the product vanishes in float32; each voxel must count.
    return weights.clamp(min=max(float(weights.min()), LEAST_WEIGHT)).to(device)


def _blend(model: NetworkCall, batch: Tensor, plan: WindowPlan, num_windows_per_batch: int, even: bool) -> Tensor:
    volume = functional.pad(batch, plan.padding)
    logits = None
    for first in range(0, len(plan.windows), num_windows_per_batch):
        windows = plan.windows[first : first + num_windows_per_batch]
        predictions = _forward(model, _cut(volume, windows, num_windows_per_batch if even else len(windows)))
        if logits is None:
            logits = predictions.new_zeros((1, predictions.shape[1], *volume.shape[2:]))
        for window, prediction in zip(windows, predictions, strict=False):
            logits[(0, slice(None), *window)].addcmul_(prediction, plan.weights)
    assert logits is not None, "there is at least one window"  # noqa: S101
    logits /= plan.total
    z, z_end, y, y_end, x, x_end = plan.padding
    return logits[:, :, x : logits.shape[2] - x_end, y : logits.shape[3] - y_end, z : logits.shape[4] - z_end]


def _cut(volume: Tensor, windows: Sequence[Window], rows: int) -> Tensor:
    """Stack windows [rows, 1, x, y, z]; rows beyond them are zeros."""
    batch = torch.cat([volume[(slice(None), slice(None), *window)] for window in windows])
    return functional.pad(batch, (0, 0) * 4 + (0, rows - len(windows)))


def _forward(model: NetworkCall, batch: Tensor) -> Tensor:
    logits: Tensor = model(batch)
    return logits.to(torch.float32)
