"""Floating-point operations of a network, and the peak of the device."""

from __future__ import annotations

import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from workshop import models
from workshop.sizes import Sizes

H100_TFLOPS = 790.0
"""Dense bf16 matrix products of one H100, measured (docs/measurements.md): the reference of the shares."""
MATRIX = {"cuda": 8192, "cpu": 1024}
MEASURED_SECONDS = 1.0


def flop_per_sample(network: str, sizes: Sizes) -> float:
    """Count matrix products and convolutions of one sample, forward and backward, with torch; nothing is computed."""
    model = models.build(network, sizes).to("meta").train()
    images = models.example(network, sizes, batch_size=2, device="meta")
    # Factories inside forward (SwinUNETR's attention mask) must create their tensors there too.
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        models.first_output(model(images)).sum().backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops()) / len(images)


def peak_flops(device: torch.device) -> tuple[float, str]:
    """FLOP/s of the device in large matrix products, and the source of the number."""
    if device.type == "cuda" and "H100" in torch.cuda.get_device_name():
        return 1e12 * H100_TFLOPS, f"{H100_TFLOPS:g} TFLOP/s, dense bf16 on an H100"
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    peak = measured_peak(device, dtype)
    name = "bf16" if device.type == "cuda" else "float32"
    return peak, f"{peak / 1e12:.3g} TFLOP/s, a matrix product of {MATRIX[device.type]} in {name}, measured"


def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the best of matrix products for a second."""
    edge = MATRIX[device.type]
    left, right = (torch.randn(edge, edge, device=device, dtype=dtype) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + MEASURED_SECONDS
    while time.perf_counter() < end:
        started = time.perf_counter()
        for _ in range(4):
            left @ right
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - started) / 4)
    return 2.0 * edge**3 / best
