"""AdamW, its learning rate over a run (a linear warm-up, then half a cosine down to zero), and one step of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim.swa_utils import get_ema_multi_avg_fn

from medloop.documents.hyperparameters import Hyperparameters
from medloop.imaging.device import autocast, best_precision
from medloop.training.parallel import Parallel


def make_optimiser(model: nn.Module, settings: Hyperparameters) -> torch.optim.AdamW:
    """Make AdamW with fused kernels; biases and the scales of normalisation layers have no weight decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


@dataclass
class Optimisation:
    """The update of a network's weights: optimiser, learning rate, loss scale, clipping, averages.

    Args:
        parallel: The network.
        settings: `learning_rate`, `warmup_fraction`, `weight_decay`, `clip_norm`, `ema`, `precision`.
    """

    parallel: Parallel
    settings: Hyperparameters
    total_steps: int = field(default=0, init=False)
    """Steps of the whole run; the learning rate depends on them."""

    def __post_init__(self) -> None:
        device = self.parallel.device
        self.optimiser = make_optimiser(self.parallel.module, self.settings)
        self.precision = best_precision(device, self.settings.precision)
        # `auto` may choose fp16; as a setting it is refused.
        if self.precision == "fp16" and self.settings.strategy == "fsdp":
            self.precision = "fp32"
        # Gradients are below fp16's smallest number: the loss is scaled up. Disabled with other precisions.
        self.scaler = GradScaler(device.type, enabled=self.precision == "fp16" and device.type == "cuda")
        self.averages: list[Tensor] | None = None
        """Averaged weights, in the order of the network's; None without `ema`. FSDP gives a process its part."""
        if self.settings.ema:
            self.averages = [weight.detach().clone() for weight in self.parallel.parameters]

    def learning_rate(self, step: int) -> float:
        """Compute the learning rate of a step, from 0; the last step of the warm-up has the full rate."""
        num_warmup = round(self.total_steps * self.settings.warmup_fraction)
        if step < num_warmup:
            return self.settings.learning_rate * ((step + 1) / num_warmup)
        progress = (step - num_warmup) / max(1, self.total_steps - num_warmup)
        return self.settings.learning_rate * (0.5 * (1 + math.cos(math.pi * min(1.0, progress))))

    def autocast(self) -> AbstractContextManager[object]:
        """Set the precision of forward passes."""
        return autocast(self.parallel.device, self.precision)

    def begin_step(self, step: int) -> None:
        """Set the learning rate of a step, from 0, and delete the gradients of the last step."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate(step)
        self.optimiser.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        # DDP and FSDP average gradients, and their sum is needed.
        self.scaler.scale(loss * self.parallel.ranks.size).backward()  # type: ignore[no-untyped-call]

    def end_step(self, step: int) -> None:
        """Clip the gradients, change the weights, and take them into the averages."""
        if self.settings.clip_norm is not None:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.parallel.parameters, self.settings.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.averages is not None:
            update_averages(self.averages, self.parallel.parameters, self.settings.ema, step + 1)

    def tensors(self) -> dict[str, Tensor]:
        """Collect the tensors to resume from, by name."""
        return self.parallel.tensors(self.optimiser, self.averages)

    def scaler_state(self) -> dict[str, float]:
        """Read the state of fp16's loss scale, as numbers for JSON."""
        return {name: float(value) for name, value in self.scaler.state_dict().items()}

    def restore(self, tensors: Mapping[str, Tensor], scaler: Mapping[str, float]) -> None:
        """Restore the result of `tensors` and `scaler_state`; averages were loaded in place."""
        self.parallel.restore(self.optimiser, tensors)
        if scaler:
            restore_scaler(self.scaler, scaler)


def restore_scaler(scaler: GradScaler, saved: Mapping[str, float]) -> None:
    """Restore a scaler's state; torch needs integers for some values, which JSON's numbers don't tell."""
    current = scaler.state_dict()
    scaler.load_state_dict({name: type(value)(saved.get(name, value)) for name, value in current.items()})


def update_averages(averages: Sequence[Tensor], weights: Sequence[Tensor], ema: float, step: int) -> None:
    """Update an exponential moving average (EMA) of weights, which often scores better; in place.

    Args:
        averages: Initially the first weights.
        weights: The new weights, in the same order.
        ema: Decay. Step n uses (1 + n) / (10 + n) at most, so that the first, random weights decay fast.
        step: Number of the step in the whole run, from 1.
    """
    update = get_ema_multi_avg_fn(min(ema, (1 + step) / (10 + step)))  # type: ignore[no-untyped-call]
    update(averages, [weight.detach() for weight in weights], step)
