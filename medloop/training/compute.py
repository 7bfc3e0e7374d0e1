"""How a network is computed: precision, layout, compilation, recomputed activations, determinism.

None of it changes what is learnt but for rounding.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medloop.documents.hyperparameters import Hyperparameters
from medloop.imaging.networks import Traits
from medloop.imaging.upsampling import replace_upsampling

COMPILE_PAYS_AFTER: Final = 900.0
"""Seconds of training left from which on compiling is worth its 45 to 230 s."""
WARM_STEPS: Final = 10
"""Steps before the speed is measured, and steps that it is measured over."""
MADE_AHEAD: Final = 3
"""Steps between the decision and compiling: their batches may have been made before, in another shape."""


def prepare_process(settings: Hyperparameters, device: torch.device) -> None:
    """Set what holds for the whole process: deterministic kernels, or the fastest ones."""
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(settings.deterministic)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = not settings.deterministic


def prepare_network(model: nn.Module, settings: Hyperparameters, traits: Traits, device: torch.device) -> None:
    """Move a network to the device, in its layout, with what its settings ask for; in place."""
    model.to(device)
    if channels_last(settings, traits):
        _to_channels_last(model)
    if settings.activation_checkpointing:
        for block in blocks(model, traits):
            _recompute(block)
    if settings.deterministic and device.type == "cuda":
        replace_upsampling(model)


def blocks(model: nn.Module, traits: Traits) -> list[nn.Module]:
    """The network's repeated parts."""
    return [module for module in model.modules() if type(module).__name__ in traits.blocks]


def channels_last(settings: Hyperparameters, traits: Traits) -> bool:
    """Whether weights and activations have their channels last; FSDP divides plain layouts only."""
    if settings.strategy == "fsdp":
        return False
    return traits.channels_last if settings.channels_last == "auto" else settings.channels_last


def _to_channels_last(model: nn.Module) -> None:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for weight in model.parameters():
        if weight.ndim in formats:
            weight.data = weight.data.contiguous(memory_format=formats[weight.ndim])


def _recompute(block: nn.Module) -> None:
    """Keep a block's inputs only; what is between is computed anew in the backward pass.

    Batch normalisation would count the batch twice: while it is computed anew, running statistics stand still.
    """
    from torch.distributed._composable.checkpoint_activation import checkpoint

    checkpoint(block, context_fn=lambda: (contextlib.nullcontext(), _standing_still(block)))


@contextlib.contextmanager
def _standing_still(block: nn.Module) -> Iterator[None]:
    # Looked for each time: DDP and FSDP on GPUs put synchronised layers in the place of those that were built.
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


@dataclass
class Compiler:
    """Decides when a network is compiled, and compiles it.

    Args:
        settings: `compile`, `deterministic`.
        device: Where the network is.
        total: Optimiser steps that are left.
        suits: Whether the network compiles well; where it doesn't it is compiled only if that is asked for.
        agree: What all processes make of one's wish to compile: each has its own clock.
    """

    settings: Hyperparameters
    device: torch.device
    total: int
    suits: bool = True
    agree: Callable[[bool], bool] = bool
    decided: bool = field(init=False)
    """Whether the network is compiled, or will be soon: batches are to have one shape."""
    done: bool = field(default=False, init=False)
    _steps: int = field(default=0, init=False)
    _measured: float = field(default=0.0, init=False)

    @property
    def possible(self) -> bool:
        """Whether the network may be compiled at some time of the run."""
        if self.settings.compile != "auto":
            return self.settings.compile
        # What is decided by the clock repeats in no second run.
        return self.device.type == "cuda" and self.suits and not self.settings.deterministic

    def __post_init__(self) -> None:
        self.decided = self.settings.compile is True

    def due(self) -> bool:
        """Whether to compile before the next step; asked before each. True once at most."""
        if self.done or not self.possible:
            return False
        self._steps += 1
        if self.settings.compile == "auto":
            self._measure()
        self.done = self.decided and (self.settings.compile is True or self._steps >= 2 * WARM_STEPS + MADE_AHEAD)
        return self.done

    def _measure(self) -> None:
        if self._steps == WARM_STEPS:
            torch.cuda.synchronize(self.device)
            self._measured = time.monotonic()
        if self._steps != 2 * WARM_STEPS:
            return
        torch.cuda.synchronize(self.device)
        left = (time.monotonic() - self._measured) / WARM_STEPS * (self.total - self._steps)
        self.decided = self.agree(left > COMPILE_PAYS_AFTER)
        if self.decided:
            print(f"compiling the network: {left / 60:.0f} minutes of training are left", flush=True)


def compile_network(model: nn.Module, traits: Traits, *, by_block: bool) -> None:
    """Compile a network in place; the names of its weights stay as they are.

    Args:
        model: As it was built.
        traits: Name its blocks.
        by_block: Each block for itself, where something happens around blocks that can't be compiled: FSDP gathers
            weights, recomputation keeps inputs.
    """
    parts = blocks(model, traits) if by_block else []
    if not parts:
        model.compile(dynamic=False)
        return
    # Blocks of one class share their code, and torch gives up on code that it has compiled eight times.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 2 * len(parts))
    for part in parts:
        # Only what is within the hooks, by which FSDP and recomputation do their work.
        part.forward = torch.compile(part.forward, dynamic=False)


def synchronised(model: nn.Module) -> bool:
    """Whether its layers exchange statistics in the forward pass: compiled code ends and begins anew at each."""
    return any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())


def make_scaler(device: torch.device, precision: str) -> Any:
    """Scales the loss where activations are fp16, whose smallest numbers are too large for gradients; else idle."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16" and device.type == "cuda")


def restore_scaler(scaler: Any, saved: Mapping[str, float]) -> None:
    """Put back a scaler's state; JSON keeps no difference between integers and other numbers, and torch wants it."""
    own = scaler.state_dict()
    scaler.load_state_dict({name: type(value)(saved.get(name, value)) for name, value in own.items()})


def to_layout(images: Tensor, *, last: bool) -> Tensor:
    """A batch in the network's layout."""
    if not last or images.ndim not in (4, 5):
        return images
    return images.contiguous(memory_format=torch.channels_last if images.ndim == 4 else torch.channels_last_3d)
