"""An exponential moving average of the weights, which often scores better than the weights themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class WeightAverage:
    """The averages, in the order of the weights. Under FSDP each process averages its part.

    Args:
        weights: What is averaged; the averages start with them.
        decay: A step's share that stays, once the run is old enough: step n keeps (1 + n) / (10 + n) at most, so that
            the first, random weights are soon forgotten.
    """

    weights: Sequence[nn.Parameter]
    decay: float

    def __post_init__(self) -> None:
        self.averages: list[Tensor] = [weight.detach().clone() for weight in self.weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after an optimiser step, counted from 1 over the whole run."""
        own = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.averages, [weight.detach() for weight in self.weights], own)
