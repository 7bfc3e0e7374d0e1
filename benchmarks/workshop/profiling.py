"""Profile of a training step: kernels (on a CPU, operators) in groups."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

GROUPS = {
    # The first match counts; a fused kernel's name lists its operations, here in the order of cost.
    "optimiser": r"adam|multi_tensor|foreach|addcdiv|addcmul_|sqrt|lerp_",
    "convolution": r"conv|implicit|wgrad|dgrad|fprop|xmma|mkldnn|cudnn::(?!bn)",
    "matrix product, attention": r"gemm|matmul|addmm|\bmm\b|bmm|attention|flash|cutlass|linear",
    "normalisation": r"norm|welford|\bbn",
    "augmentation's resampling": r"grid_sampl|affine_grid",
    "up-sampling": r"upsample|interpolat",
    "activations and dropout": r"relu|gelu|dropout|bernoulli|clamp_min",
    "copies and layout": r"copy|memcpy|memset|transpose|nchwto|nhwcto|clone|contiguous|\bcat\b|stack|fill|zero_",
}
OTHER = "other"
TOP = 12


def group_of(kernel: str) -> str:
    """The group of a kernel or operator."""
    name = kernel.lower()
    return next((group for group, pattern in GROUPS.items() if re.search(pattern, name)), OTHER)


@dataclass
class EpochProfile:
    """A profile of some epochs, driven by the epochs' lines: call it with the number of epochs so far.

    Args:
        first: Epochs before it starts.
        count: Epochs that it takes.
    """

    first: int
    count: int = 2
    _profile: Any = field(default=None, init=False)

    def __call__(self, done: int) -> None:
        """Start or stop."""
        if done == self.first:
            activities = [ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(ProfilerActivity.CUDA)
            self._profile = profile(activities=activities)
            self._profile.start()
        if done == self.first + self.count and self._profile is not None:
            self._profile.stop()

    def times(self) -> dict[str, float]:
        """Seconds by kernel (on a CPU by operator, without its callees), the largest first."""
        seconds: dict[str, float] = defaultdict(float)
        for event in self._profile.key_averages():
            microseconds = _own_time(event)
            if microseconds > 0:
                seconds[event.key] += microseconds / 1e6
        return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def _own_time(event: Any) -> float:
    if not torch.cuda.is_available():
        return float(event.self_cpu_time_total)
    # Operators include the time of the kernels that they launch: only kernels count.
    is_kernel = event.device_type == DeviceType.CUDA
    return float(event.self_device_time_total) if is_kernel else 0.0


def grouped(times: dict[str, float]) -> list[list[object]]:
    """Rows of (group, seconds, share), the largest first."""
    sums: dict[str, float] = defaultdict(float)
    for name, seconds in times.items():
        sums[group_of(name)] += seconds
    total = sum(sums.values()) or 1.0
    return [[group, seconds, f"{100 * seconds / total:.0f} %"] for group, seconds in _largest(sums)]


def top(times: dict[str, float], count: int = TOP) -> list[list[object]]:
    """Rows of (kernel, group, share), the largest first."""
    total = sum(times.values()) or 1.0
    return [
        [f"`{name[:90]}`", group_of(name), f"{100 * seconds / total:.1f} %"]
        for name, seconds in _largest(times)[:count]
    ]


def _largest(values: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(values.items(), key=lambda item: -item[1])
