"""Tensors on their way to a GPU, which is never waited for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Numbers made on the CPU, on the device; small ones, such as a batch's parameters.

    Args:
        values: On the CPU, or on the device already.
        device: Where they are needed.
        dtype: Of the result; None keeps the values' own.
    """
    values = values if dtype is None else values.to(dtype)
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    # From memory that isn't pinned, CUDA first finishes all that the stream has to do.
    return (values if values.is_pinned() else values.pin_memory()).to(device, non_blocking=True)


def empty_batch(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Room for a batch on the device; on the CPU it is pinned where there is a GPU that it may go to."""
    # torch keeps pinned memory and hands it out again once the copies out of it are done: no batch allocates again.
    pinned = device.type == "cpu" and torch.cuda.is_available()
    return torch.empty(tuple(shape), dtype=dtype, device=device, pin_memory=pinned)
