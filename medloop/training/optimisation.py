"""AdamW, and the learning rate over a run: a linear warm-up, then half a cosine down to zero."""

from __future__ import annotations

import math

import torch
from torch import nn

from medloop.documents.hyperparameters import Hyperparameters


def learning_rate_factor(step: int, num_steps: int, warmup_fraction: float) -> float:
    """Share of the full learning rate at an optimiser step.

    Args:
        step: 0 for the first step.
        num_steps: All steps of the run.
        warmup_fraction: Share of `num_steps` in which the rate rises; its last step has the full rate.

    Returns:
        In (0, 1] for every step of the run.
    """
    num_warmup = round(num_steps * warmup_fraction)
    if step < num_warmup:
        return (step + 1) / num_warmup
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def make_optimiser(model: nn.Module, settings: Hyperparameters) -> torch.optim.AdamW:
    """AdamW in fused kernels; biases and the scales of normalisation layers are not decayed."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
