"""The one place that knows how a network is spread over processes: not at all, DDP, or FSDP2.

Networks and tasks know one device. DDP keeps the whole network in each process and adds gradients; FSDP2
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

# Nobody changes a block's output in place.
warnings.filterwarnings("ignore", message=r"FSDP2-wrapped module .* returned a view tensor")
# The gradient of a weight whose layout is ambiguous (a convolution of one voxel) is copied: no harm, but a line a rank.
warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


@dataclass
class Parallel:
    """A network as one process trains it. `parallelise` makes one.

    Args:
        model: What is called in training.
        module: The network itself, of whose weights FSDP leaves a process its part.
        ranks: The processes.
        eval_copy: A whole copy, where `module` isn't whole or its weights aren't what is validated; else None. On the
            CPU at first, and under FSDP whenever it isn't used.
        device: Where training runs.
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
    def whole(self) -> nn.Module:
        """The whole network, on any number of processes; it has the weights that it was given last."""
        return self.eval_copy or self.module

    @contextmanager
    def gradient_sync(self, enabled: bool) -> Iterator[None]:
        """Exchange gradients in this backward pass, or only add them up: a batch's last one exchanges all."""
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
        """Let `module` compute passes of which other processes know nothing: no gradients, no statistics exchanged."""
        norms = [module for module in self.module.modules() if isinstance(module, nn.SyncBatchNorm) and module.training]
        for norm in norms:
            norm.eval()
        try:
            with self.gradient_sync(enabled=False):
                yield
        finally:
            for norm in norms:
                norm.train()

    def scale_loss(self, loss: Tensor) -> Tensor:
        """DDP and FSDP average gradients over processes; a loss over all of them wants their sum."""
        return loss * self.ranks.size

    def clip_gradients(self, max_norm: float) -> None:
        """Scale gradients down to a norm over all weights, whoever holds them."""
        torch.nn.utils.clip_grad_norm_(self.parameters, max_norm)

    @torch.no_grad()
    def average_statistics(self) -> None:
        """Average running statistics over processes, so that all of them validate the same network."""
        if self.ranks.size == 1:
            return
        for module in self.module.modules():
            if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
                for buffer in (module.running_mean, module.running_var):
                    if buffer is not None:
                        buffer.copy_(self.ranks.total(buffer.clone()) / self.ranks.size)

    @contextmanager
    def eval_model(self, weights: Sequence[Tensor] | None = None) -> Iterator[nn.Module]:
        """The network in eval mode, whole, on the device.

        Args:
            weights: In the place of `parameters`: their averages.
        """
        self.average_statistics()
        if self.eval_copy is None:
            self.module.eval()
            yield self.module
            self.module.train()
            return
        divided = isinstance(self.module, FSDPModule)
        if not divided:  # the copy stays on the device: it is as large as a step's gradients
            self.eval_copy.to(self.device)
        self.eval_copy.load_state_dict(self.full_state(weights))
        try:
            yield self.eval_copy.to(self.device).eval()
        finally:
            if divided:
                self.eval_copy.to("cpu")

    @torch.no_grad()
    def full_state(self, weights: Sequence[Tensor] | None = None) -> dict[str, Tensor]:
        """The network's whole state by name; all processes must ask at once.

        Args:
            weights: In the place of `parameters`.
        """
        changed = {id(own): other for own, other in zip(self.parameters, weights or (), strict=False)}
        return {name: _whole(changed.get(id(value), value)) for name, value in self._named()}

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        buffers = dict(self.module.named_buffers(remove_duplicate=False))
        weights = dict(self.module.named_parameters(remove_duplicate=False))
        for name in self.module.state_dict():
            yield name, weights.get(name, buffers.get(name))  # type: ignore[misc]

    def largest_weight(self) -> float:
        """Magnitude of the largest weight or running statistic; NaN where one is NaN."""
        values = [_local(value).detach() for _, value in self._named()]
        values = [value for value in values if value.is_floating_point() and value.numel()]
        return self.ranks.largest(float(get_total_norm(values, math.inf)) if values else 0.0)

    def tensors(self, optimiser: Optimizer, average: Sequence[Tensor] | None) -> dict[str, Tensor]:
        """All tensors to resume from, by name; under FSDP each process's part."""
        model, state = get_state_dict(self.module, optimiser, options=FLAT)
        flat = cast(Mapping[str, object], state)  # flattened: a name, then a value
        tensors = {f"model.{name}": value for name, value in model.items() if isinstance(value, Tensor)}
        tensors |= {f"optimiser.{name}": value for name, value in flat.items() if isinstance(value, Tensor)}
        return tensors | {f"average.{index}": value for index, value in enumerate(average or ())}

    def restore(self, optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave, of the same or another number of processes; averages are the caller's own."""
        model, state = get_state_dict(self.module, optimiser, options=FLAT)
        values: dict[str, Any] = dict(state)
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "model":
                model[rest] = value
            elif kind == "optimiser":
                values[rest] = value
        set_state_dict(self.module, optimiser, model_state_dict=model, optim_state_dict=values, options=FLAT)


def parallelise(
    model: nn.Module, settings: Hyperparameters, traits: Traits, device: torch.device, ranks: Ranks
) -> Parallel:
    """Spread a network over the processes.

    Args:
        model: On the device, the same in every process.
        settings: `strategy`, `ema`.
        traits: Name the blocks that FSDP gathers one at a time.
        device: This process's.
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
    # Running statistics: synchronised layers have the same everywhere; others are averaged where they are needed, and
    # with the first process's in the place of all, before each step, the average would be little else than its own.
    whole = DistributedDataParallel(model, device_ids=devices, forward_sync_buffers=False)
    return Parallel(whole, model, ranks, plain, device)


def _whole(value: Tensor) -> Tensor:
    value = value.detach()
    return value.full_tensor() if isinstance(value, DTensor) else value


def _local(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value
