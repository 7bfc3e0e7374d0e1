"""Sliding-window inference on a volume: MONAI's in float32, and medloop's ("ours") as used by validation and serving.

    python benchmarks/sliding_window.py
    python benchmarks/sliding_window.py --networks segresnet --shape 256 256 96 --patch 96 96 96

"MONAI": `sliding_window_inference` in float32 with the same windows and the same blending, four per batch, as in
MONAI's examples. "Ours": `infer_logits`, in float32 and, on a GPU, in its default precision and
layout. "Windows only": the same with an identity network, to show the cost of cutting and blending.
Differences are the largest between probabilities, over all voxels and classes, from MONAI's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from workshop import models, report
from workshop.report import PeakMemory
from workshop.sizes import SEGMENTERS, Sizes, pick

from medloop.documents.model import Inference
from medloop.imaging.device import autocast, pick_device
from medloop.imaging.sliding import infer_logits, plan_windows

MONAI_AT_ONCE = 4
CLASSES = 2
WINDOWS_ONLY = "windows only"
SHAPES = {
    "tiny": ((40, 44, 70), (32, 32, 64)),
    "small": ((96, 112, 80), (64, 64, 64)),
    "full": ((256, 256, 160), (96, 96, 96)),
}
COLUMNS = ["network", "inference", "windows", "seconds", "windows/s", "MONAI / it", "peak MiB", "largest difference"]
Infer = Callable[[Tensor], Tensor]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    args = _arguments(argv)
    sizes, device = pick(args.size), pick_device()
    shape, patch = SHAPES[args.size if args.size != "auto" else sizes.name]
    shape, patch = tuple(args.shape or shape), tuple(args.patch or patch)
    note = f"Volume {_shape_text(shape)}, windows {_shape_text(patch)}, overlap {args.overlap:g}, {CLASSES} classes."
    print(report.header("sliding windows", [note]), flush=True)
    image = torch.randn(shape, device=device, generator=torch.Generator(device).manual_seed(0))
    rule = Inference.model_validate({"patch_size": patch, "overlap": args.overlap})
    names = [*args.networks, *([] if args.no_windows_only else [WINDOWS_ONLY])]
    report.print_table(COLUMNS, (row for name in names for row in rows(name, sizes, image, rule, args)))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["segresnet", "unet", "swinunetr"], choices=SEGMENTERS)
    parser.add_argument("--shape", nargs=3, type=int, help="voxels of the volume")
    parser.add_argument("--patch", nargs=3, type=int, help="voxels of a window")
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=3, help="timed runs; the minimum counts")
    parser.add_argument("--cpu-time", action="store_true", help="measure CPU time of this process instead of wall time")
    parser.add_argument(
        "--at-once", nargs="*", type=int, default=[], help="windows per batch of ours, in addition to its default"
    )
    parser.add_argument("--compile", action="store_true", help="add a row with the compiled network")
    parser.add_argument("--no-windows-only", action="store_true")
    parser.add_argument("--size", choices=["auto", "tiny", "small", "full"], default="auto")
    return parser.parse_args(argv)


def rows(name: str, sizes: Sizes, image: Tensor, rule: Inference, args: argparse.Namespace) -> Iterator[list[object]]:
    """Measure a network's rows; the first is MONAI's, the reference of the others."""
    torch.manual_seed(0)
    model = (Copies() if name == WINDOWS_ONLY else models.build(name, sizes, CLASSES)).to(image.device).eval()
    count = len(plan_windows(image, rule.patch_size or (1, 1, 1), rule.overlap).windows)
    base: tuple[float, Tensor] | None = None
    for title, infer in _ways(model, rule, image.device, args):
        with PeakMemory() as memory:
            seconds, logits = _time(
                infer, image, args.repeats, time.process_time if args.cpu_time else time.perf_counter
            )
        probabilities = logits.float().softmax(dim=0)
        base = base or (seconds, probabilities)
        difference = float((probabilities - base[1]).abs().max())
        peak = report.mebibytes(memory.num_bytes)
        yield [name, title, count, seconds, count / seconds, base[0] / seconds, peak, f"{difference:.1e}"]


def _ways(
    model: nn.Module, rule: Inference, device: torch.device, args: argparse.Namespace
) -> Iterator[tuple[str, Infer]]:
    yield "MONAI, float32", partial(_monai, model, rule)
    yield "ours, float32", partial(_ours, model, rule, "fp32", None, device, even=False)
    for number in args.at_once:
        yield f"ours, float32, {number} at once", partial(_ours, model, rule, "fp32", number, device, even=False)
    if device.type == "cuda":
        yield "ours, bf16", partial(_ours, model, rule, "auto", None, device, even=False)
        model.to(memory_format=torch.channels_last_3d)
        yield "ours, bf16, channels last", partial(_ours, model, rule, "auto", None, device, even=False)
    if args.compile:
        compiled = torch.compile(model)
        yield "ours, compiled", partial(_ours, compiled, rule, "auto", None, device, even=True)


def _monai(model: nn.Module, rule: Inference, image: Tensor) -> Tensor:
    from monai.inferers import sliding_window_inference

    output: Tensor = sliding_window_inference(
        image[None, None], rule.patch_size, MONAI_AT_ONCE, model, overlap=rule.overlap, mode=rule.blending
    )
    return output[0]


def _ours(
    model: Callable[[Tensor], Tensor],
    rule: Inference,
    precision: Literal["fp32", "auto"],
    num_windows: int | None,
    device: torch.device,
    image: Tensor,
    *,
    even: bool,
) -> Tensor:
    with autocast(device, precision):
        return infer_logits(model, image, rule, num_windows_per_batch=num_windows, even=even)


@torch.no_grad()
def _time(infer: Infer, image: Tensor, repeats: int, clock: Callable[[], float]) -> tuple[float, Tensor]:
    """Minimum seconds after a warm-up run, and the logits."""
    logits, times = infer(image), []
    for _ in range(repeats):
        _wait()
        started = clock()
        logits = infer(image)
        _wait()
        times.append(clock() - started)
    return min(times), logits


class Copies(nn.Module):
    """An identity network."""

    def forward(self, images: Tensor) -> Tensor:
        """[N, 1, x, y, z] to [N, CLASSES, x, y, z]."""
        return images.expand(-1, CLASSES, -1, -1, -1).clone()


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _shape_text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


if __name__ == "__main__":
    main()
