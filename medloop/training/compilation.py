"""torch.compile: the decision when to compile, and the parts of a network that are compiled."""

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
"""Remaining seconds of training that compiling, which takes 45 to 230 s, is worth for."""
WARM_STEPS: Final = 10
"""Number of steps before the speed is measured, and number of steps of the measurement."""
MADE_AHEAD: Final = 3
"""Steps between the decision and compiling: their batches may have been prefetched in another shape."""


@dataclass
class Compiler:
    """The decision when a network is compiled.

    Args:
        settings: `compile`, `deterministic`.
        device: Device of the network.
        total: Number of remaining optimiser steps.
        suits: True if the network compiles well; others are compiled only if `compile` is true.
        agree: True if any process decides to compile: each has its own clock.
    """

    settings: Hyperparameters
    device: torch.device
    total: int
    suits: bool = True
    agree: Callable[[bool], bool] = bool
    decided: bool = field(init=False)
    """True if the network is compiled, or will be soon: batches must have one shape."""
    done: bool = field(default=False, init=False)
    _steps: int = field(default=0, init=False)
    _measured: float = field(default=0.0, init=False)

    @property
    def possible(self) -> bool:
        """True if the network may be compiled during the run."""
        if self.settings.compile != "auto":
            return self.settings.compile
        # A decision by the clock is not reproducible.
        return self.device.type == "cuda" and self.suits and not self.settings.deterministic

    def __post_init__(self) -> None:
        self.decided = self.settings.compile is True

    def eager(self) -> AbstractContextManager[None]:
        """Run without compiled code, which is made for one shape; validation has many, and would compile for each."""
        return torch.compiler.set_stance("force_eager") if self.done else nullcontext()

    def due(self) -> bool:
        """True if the network must be compiled before the next step; called before each step, true once at most."""
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
        seconds_left = (time.monotonic() - self._measured) / WARM_STEPS * (self.total - self._steps)
        self.decided = self.agree(seconds_left > COMPILE_PAYS_AFTER)
        if self.decided:
            print(f"compiling the network: {seconds_left / 60:.0f} minutes of training are left", flush=True)


def compile_network(model: nn.Module, traits: Traits, *, by_block: bool) -> None:
    """Compile a network in place; the names of its weights are unchanged.

    Args:
        model: The network, without wrappers.
        traits: Names of its blocks.
        by_block: True to compile each block separately: hooks around blocks can't be compiled (FSDP gathers weights,
            recomputation stores inputs).
    """
    parts = blocks(model, traits) if by_block else []
    if not parts:
        model.compile(dynamic=False)
        return
    # Blocks of one class share their code, and torch stops compiling the same code after eight times.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 2 * len(parts))
    for part in parts:
        # Without the hooks of FSDP and recomputation.
        part.forward = torch.compile(part.forward, dynamic=False)


def synchronised(model: nn.Module) -> bool:
    """True if layers exchange statistics in the forward pass: each of them is a graph break."""
    return any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
