"""One seed for every generator that training draws from, and the device it runs on."""

from __future__ import annotations

import contextlib
import random
from typing import Literal

import numpy as np
import torch

Precision = Literal["auto", "fp32", "bf16"]


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` is the first GPU where there is one, else the CPU."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """The precision of forward passes; `auto` is bf16 on a GPU that computes in it, fp32 elsewhere."""
    capable = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "bf16" or (precision == "auto" and capable):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()
