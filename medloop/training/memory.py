"""Out of memory (OOM): advice what to change, cheapest first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from medloop.documents.hyperparameters import Hyperparameters, SegmentationHyperparameters
from medloop.errors import SettingError

_ALLOCATION_FAILED = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""The CPU and NVIDIA's libraries, which allocate without torch, have no exception type for it."""


@contextmanager
def translate_oom(settings: Hyperparameters, device: torch.device) -> Iterator[None]:
    """Translate a failed allocation into an error with advice.

    Raises:
        SettingError: Memory ran out.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise SettingError(f"{_device_name(device)} ran out of memory; {advice(settings)}") from None


def is_out_of_memory(error: BaseException) -> bool:
    """True if an allocation failed: torch's or a library's on a GPU, or one on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _ALLOCATION_FAILED)


def advice(settings: Hyperparameters) -> str:
    """List settings to change, in the order of their cost, without those that are changed already."""
    steps = []
    if settings.accumulation < settings.batch_size:
        parts = min(settings.batch_size, 2 * settings.accumulation)
        steps.append(f"accumulation={parts} (the same batch in more parts)")
    if settings.batch_size > 1:
        steps.append(f"batch_size={settings.batch_size // 2}")
    if isinstance(settings, SegmentationHyperparameters):
        name = "patch_size" if settings.mode == "patch" else "size"
        steps.append(f"a smaller {name} than {list(getattr(settings, name))}")
    else:
        steps.append("a smaller image_size")
    if not settings.activation_checkpointing:
        steps.append("activation_checkpointing=true (a third slower)")
    if settings.strategy != "fsdp":
        steps.append("strategy=fsdp on several GPUs")
    auto = "" if settings.auto_batch or settings.strategy == "fsdp" else "; or let auto_batch=true find what fits"
    return f"try in this order: {', then '.join(steps)}{auto}"


def _device_name(device: torch.device) -> str:
    if device.type != "cuda":
        return "this host"
    total = torch.cuda.get_device_properties(device).total_memory
    return f"the GPU ({total / 2**30:.0f} GiB)"
