"""Losses as means over the samples of all processes.

A process computes sums over its own samples; the sums of all processes are added before the division, so that loss and
gradient don't depend on the number of processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from medloop.training.ranks import ALONE, Ranks

SMOOTH = 1e-5
"""Added to numerator and denominator of Dice, as in MONAI's DiceLoss."""


@dataclass(frozen=True)
class Reduction:
    """Sums and means of this process's rows, over the samples of all processes.

    Args:
        weights: [N] 1 of a sample, 0 of padding.
        total: Number of samples of all processes.
        ranks: The processes.
    """

    weights: Tensor
    total: int
    ranks: Ranks = ALONE

    @classmethod
    def local(cls, num: int, device: torch.device) -> Reduction:
        """Reduce over the rows of this process only."""
        return cls(torch.ones(num, device=device), num)

    def sum(self, values: Tensor) -> Tensor:
        """Sum [N, ...] to [...] over the samples of all processes."""
        weights = self.weights.to(values.dtype).view(-1, *[1] * (values.ndim - 1))
        return self.ranks.sum((values * weights).sum(0))

    def mean(self, values: Tensor) -> Tensor:
        """Average [N, ...] to [...] over the samples of all processes."""
        return self.sum(values) / self.total


def full_precision(logits: Tensor) -> Tensor:
    """Convert to float32 or more: sums over millions of voxels need it."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


@dataclass(frozen=True)
class ImageLoss:
    """Cross-entropy with class weights and label smoothing; a mean over images.

    torch's mean divides by the batch's sum of weights, which differs between batches.

    Args:
        weights: [C] or None.
        smoothing: 0 to 1.
    """

    weights: Tensor | None = None
    smoothing: float = 0.0

    def __call__(self, logits: Tensor, labels: Tensor, reduction: Reduction) -> Tensor:
        """Compute a scalar from [N, C] logits and [N] int64 labels."""
        logits = full_precision(logits)
        weights = None if self.weights is None else self.weights.to(logits)
        losses = functional.cross_entropy(
            logits, labels, weight=weights, label_smoothing=self.smoothing, reduction="none"
        )
        return reduction.mean(losses)


@dataclass(frozen=True)
class VolumeLoss:
    """Dice of the foreground classes, taken over the batch, and cross-entropy of all classes over voxels.

    Dice is computed over the batch: a patch without a class would add noise. Equal to MONAI's DiceCELoss(
    include_background=False, to_onehot_y=True, softmax=True, batch=True), to DiceLoss where `kind` is dice.
    """

    kind: Literal["dice_ce", "dice"] = "dice_ce"

    def __call__(self, logits: Tensor, labels: Tensor, reduction: Reduction) -> Tensor:
        """Compute a scalar from [N, C, x, y, z] logits and [N, 1, x, y, z] labels."""
        logits = full_precision(logits)
        classes = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1, 1)
        # A comparison has a deterministic gradient on a GPU, unlike an index, and can be fused.
        truth = labels == classes
        logs = logits.log_softmax(dim=1)
        likely = logs.exp()
        overlap = (likely * truth).flatten(2).sum(2)
        sizes = likely.flatten(2).sum(2) + truth.flatten(2).sum(2)
        overlap, sizes = reduction.sum(torch.stack([overlap, sizes], dim=1))[:, 1:]
        dice: Tensor = (1 - (2 * overlap + SMOOTH) / (sizes + SMOOTH)).mean()
        if self.kind == "dice":
            return dice
        voxels = logits[0, 0].numel()
        return dice - reduction.mean((logs * truth).flatten(1).sum(1) / voxels)
