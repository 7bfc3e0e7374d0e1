"""Computation of a network: seeds, memory layout, recomputed activations, determinism.

The results differ by rounding only.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medloop.documents.hyperparameters import Hyperparameters
from medloop.documents.networks import Traits
from medloop.imaging.resampling import replace_upsampling


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def prepare_process(settings: Hyperparameters, device: torch.device) -> None:
    """Configure the process for deterministic kernels, or for the fastest ones."""
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(settings.deterministic)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = not settings.deterministic


def prepare_network(model: nn.Module, settings: Hyperparameters, traits: Traits, device: torch.device) -> None:
    """Move a network to the device, and apply layout, recomputation and determinism; in place."""
    model.to(device)
    if channels_last(settings, traits):
        _to_channels_last(model)
    if settings.activation_checkpointing:
        for block in blocks(model, traits):
            _recompute(block)
    if settings.deterministic and device.type == "cuda":
        replace_upsampling(model)


def blocks(model: nn.Module, traits: Traits) -> list[nn.Module]:
    """List the repeated parts of a network."""
    return [module for module in model.modules() if type(module).__name__ in traits.blocks]


def channels_last(settings: Hyperparameters, traits: Traits) -> bool:
    """True if weights and activations have their channels last; FSDP supports plain layouts only."""
    if settings.strategy == "fsdp":
        return False
    return traits.channels_last if settings.channels_last == "auto" else settings.channels_last


def _to_channels_last(model: nn.Module) -> None:
    for weight in model.parameters():
        weight.data = to_layout(weight.data, last=True)


def _recompute(block: nn.Module) -> None:
    """Store only a block's inputs; its activations are computed again in the backward pass.

    Running statistics of batch normalisation are frozen in the second computation, or the batch would count twice.
    """
    from torch.distributed._composable.checkpoint_activation import checkpoint

    checkpoint(block, context_fn=lambda: (contextlib.nullcontext(), _frozen_statistics(block)))


@contextlib.contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    # Listed each time: on GPUs, DDP and FSDP replace the layers by synchronised ones.
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def to_layout(images: Tensor, *, last: bool) -> Tensor:
    """Convert a batch, or weights, to the network's layout."""
    if not last or images.ndim not in (4, 5):
        return images
    return images.contiguous(memory_format=torch.channels_last if images.ndim == 4 else torch.channels_last_3d)
