"""Parallel training of a network: one process, DDP, or FSDP2.

Networks and tasks use one device. DDP keeps the whole network in each process and adds gradients; FSDP2
(`fully_shard`, block by block) divides weights, gradients and optimiser among them.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from medloop.documents.hyperparameters import Hyperparameters
from medloop.documents.networks import Traits
from medloop.training.compute import blocks
from medloop.training.ranks import Ranks

# No code changes a block's output in place.
warnings.filterwarnings("ignore", message=r"FSDP2-wrapped module .* returned a view tensor")
# The gradient of a weight whose layout is ambiguous (a convolution of one voxel) is copied: no harm, but a line a rank.
warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


@dataclass
class Parallel:
    """A network as one process trains it. `parallelise` makes one.

    Args:
        model: The network with its wrapper, called in training.
        module: The network itself; with FSDP a process has a part of its weights.
        ranks: The processes.
        eval_copy: A whole copy if `module` isn't whole or averages are validated; else None. On the CPU at first, and
            with FSDP whenever it isn't used.
        device: Device of training.
    """

    model: nn.Module
    module: nn.Module
    ranks: Ranks
    eval_copy: nn.Module | None
    device: torch.device
    parameters: list[nn.Parameter] = field(init=False)

    def __post_init__(self) -> None:
        self.parameters = [weight for weight in self.module.parameters() if weight.requires_grad]

    @property
    def full_model(self) -> nn.Module:
        """The whole network, with any strategy."""
        return self.eval_copy or self.module

    @contextmanager
    def gradient_sync(self, enabled: bool) -> Iterator[None]:
        """Exchange gradients in a backward pass, or only add them up; the last one of a batch exchanges all."""
        if isinstance(self.model, FSDPModule):
            self.model.set_requires_gradient_sync(enabled)
            yield
        elif isinstance(self.model, DistributedDataParallel) and not enabled:
            with self.model.no_sync():
                yield
        else:
            yield

    @contextmanager
    def without_gradient_sync(self) -> Iterator[None]:
        """Compute passes of `module` without the other processes: no gradients and no statistics are exchanged."""
        norms = [module for module in self.module.modules() if isinstance(module, nn.SyncBatchNorm) and module.training]
        for norm in norms:
            norm.eval()
        try:
            with self.gradient_sync(enabled=False):
                yield
        finally:
            for norm in norms:
                norm.train()

    @torch.no_grad()
    def average_statistics(self) -> None:
        """Average running statistics over processes, so that all validate the same network."""
        if self.ranks.size == 1:
            return
        for module in self.module.modules():
            if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
                for buffer in (module.running_mean, module.running_var):
                    if buffer is not None:
                        buffer.copy_(self.ranks.total(buffer.clone()) / self.ranks.size)

    @contextmanager
    def eval_model(self, weights: Sequence[Tensor] | None = None) -> Iterator[nn.Module]:
        """Yield the whole network in eval mode, on the device.

        Args:
            weights: Averages that replace `parameters`.
        """
        self.average_statistics()
        if self.eval_copy is None:
            self.module.eval()
            yield self.module
            self.module.train()
            return
        divided = isinstance(self.module, FSDPModule)
        if not divided:  # the copy stays on the device; it is as large as a step's gradients
            self.eval_copy.to(self.device)
        self.eval_copy.load_state_dict(self.full_state(weights))
        try:
            yield self.eval_copy.to(self.device).eval()
        finally:
            if divided:
                self.eval_copy.to("cpu")

    @torch.no_grad()
    def full_state(self, weights: Sequence[Tensor] | None = None) -> dict[str, Tensor]:
        """Gather the network's whole state by name; a collective call.

        Args:
            weights: Averages that replace `parameters`.
        """
        changed = {id(weight): average for weight, average in zip(self.parameters, weights or (), strict=False)}
        return {name: _full(changed.get(id(value), value)) for name, value in self._named()}

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        buffers = dict(self.module.named_buffers(remove_duplicate=False))
        weights = dict(self.module.named_parameters(remove_duplicate=False))
        for name in self.module.state_dict():
            yield name, weights.get(name, buffers.get(name))  # type: ignore[misc]

    def largest_weight(self) -> float:
        """Compute the magnitude of the largest weight or running statistic; NaN if one is NaN."""
        values = [_local(value).detach() for _, value in self._named()]
        values = [value for value in values if value.is_floating_point() and value.numel()]
        return self.ranks.largest(float(get_total_norm(values, math.inf)) if values else 0.0)

    def tensors(self, optimiser: Optimizer, average: Sequence[Tensor] | None) -> dict[str, Tensor]:
        """Collect the tensors to resume from, by name; with FSDP each process's part."""
        model, state = get_state_dict(self.module, optimiser, options=FLAT)
        flat = cast(Mapping[str, object], state)  # flattened: a name, then a value
        tensors = {f"model.{name}": value for name, value in model.items() if isinstance(value, Tensor)}
        tensors |= {f"optimiser.{name}": value for name, value in flat.items() if isinstance(value, Tensor)}
        return tensors | {f"average.{index}": value for index, value in enumerate(average or ())}

    def restore(self, optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
        """Restore the result of `tensors`, of any number of processes, without the averages."""
        model, state = get_state_dict(self.module, optimiser, options=FLAT)
        values: dict[str, Any] = dict(state)
        for name, value in tensors.items():
            kind, _, key = name.partition(".")
            if kind == "model":
                model[key] = value
            elif kind == "optimiser":
                values[key] = value
        set_state_dict(self.module, optimiser, model_state_dict=model, optim_state_dict=values, options=FLAT)


def parallelise(
    model: nn.Module, settings: Hyperparameters, traits: Traits, device: torch.device, ranks: Ranks
) -> Parallel:
    """Distribute a network over the processes.

    Args:
        model: The network on the device, equal in every process.
        settings: `strategy`, `ema`.
        traits: Names of the blocks, which FSDP gathers one at a time.
        device: Device of this process.
        ranks: The processes.
    """
    alone = ranks.size == 1
    divided = settings.strategy == "fsdp" and not alone
    plain = copy.deepcopy(model).to("cpu") if divided or settings.ema else None
    if not alone and device.type == "cuda":  # the exchange of statistics has no CPU kernel
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    if alone:
        return Parallel(model, model, ranks, plain, device)
    if divided:
        mesh = init_device_mesh(device.type, (ranks.size,))
        for block in blocks(model, traits):
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        return Parallel(model, model, ranks, plain, device)
    devices = [device] if device.type == "cuda" else None
    # Running statistics of synchronised layers are equal; others are averaged before they are used. Broadcasting the
    # first process's before each step would make the average almost its own.
    replicated = DistributedDataParallel(model, device_ids=devices, forward_sync_buffers=False)
    return Parallel(replicated, model, ranks, plain, device)


def _full(value: Tensor) -> Tensor:
    value = value.detach()
    return value.full_tensor() if isinstance(value, DTensor) else value


def _local(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value
