"""The device that a process runs on, the precision of its forward passes, and tensors on their way to a GPU."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from medloop.container.gpu import is_on_sagemaker, unusable_gpu
from medloop.errors import SettingError

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` is this process's GPU where there is one, else the CPU.

    Raises:
        SettingError: On SageMaker, a GPU is billed that this image can't use; elsewhere that is a printed note.
    """
    if name != "auto":
        return torch.device(name)
    if not torch.cuda.is_available():
        if (reason := unusable_gpu(torch.version.cuda)) is not None:
            if is_on_sagemaker():
                raise SettingError(reason)
            print(f"computing on the CPU; {reason}", flush=True)
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def best_precision(device: torch.device, precision: Precision) -> Literal["fp32", "bf16", "fp16"]:
    """Resolve `auto`: bf16 on a GPU that computes in it, fp16 on another, fp32 on the CPU."""
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """The precision of forward passes."""
    best = best_precision(device, precision)
    if best == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16 if best == "bf16" else torch.float16)


def to_device(values: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Numbers made on the CPU, on the device, which is not waited for; small ones, such as a batch's parameters.

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
