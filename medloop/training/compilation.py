"""torch.compile: when it pays, and what of a network is compiled."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import nn

from medloop.documents.hyperparameters import Hyperparameters
from medloop.documents.networks import Traits
from medloop.training.compute import blocks

COMPILE_PAYS_AFTER: Final = 900.0
"""Seconds of training left from which on compiling is worth its 45 to 230 s."""
WARM_STEPS: Final = 10
"""Steps before the speed is measured, and steps that it is measured over."""
MADE_AHEAD: Final = 3
"""Steps between the decision and compiling: their batches may have been made before, in another shape."""


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

    def eager(self) -> AbstractContextManager[None]:
        """Run without compiled code, which is made for one shape; validation has many, and would compile for each."""
        return torch.compiler.set_stance("force_eager") if self.done else nullcontext()

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
