"""The device that a process runs on, and the precision of its forward passes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def pick_device(name: str = "auto", environ: Mapping[str, str] | None = None) -> torch.device:
    """The device of that name; `auto` is this process's GPU where there is one, else the CPU."""
    if name != "auto":
        return torch.device(name)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    env = os.environ if environ is None else environ
    device = torch.device("cuda", int(env.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def best_precision(device: torch.device, precision: Precision) -> Literal["fp32", "bf16", "fp16"]:
    """What `auto` means: bf16 on a GPU that computes in it, fp16 on another, fp32 on the CPU."""
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
