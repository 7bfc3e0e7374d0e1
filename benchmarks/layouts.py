"""Speed of memory layouts per network, and of up-sampling: only forward and backward.

    python benchmarks/layouts.py
    python benchmarks/layouts.py --networks segresnet --threads 1 --seconds 5
    python benchmarks/layouts.py --threads 1 --cpu-time            # on shared cores
    python benchmarks/layouts.py --precision bf16 --compile        # on a GPU

For each network: the minimum milliseconds of a step with plain tensors and with channels last, and their ratio
(above 1: channels last is faster). The layouts alternate, so that other load on the host affects
both. Then MONAI's up-sampling in SegResNet (`interpolate`) against shifts and sums (`medloop.imaging.resampling`).
The defaults of `medloop.imaging.networks` come from these measurements.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from workshop import models, report
from workshop.sizes import CLASSIFIERS, SEGMENTERS, Sizes, pick

from medloop.imaging.resampling import upsample_linear

WARM_STEPS = 2
MIN_STEPS = 3
Step = Callable[[], None]


def main(argv: Sequence[str] | None = None) -> None:
    """Print both tables."""
    args = _arguments(argv)
    sizes = pick(args.size)
    print(report.header("layouts", [f"Sizes {sizes.name}, precision {args.precision}, compile {args.compile}."]))
    columns = ["network", "batch", "threads", "plain, ms", "channels last, ms", "plain / channels last"]
    rows = (network_row(name, sizes, args, threads) for threads in args.threads for name in args.networks)
    report.print_table(columns, rows)
    columns = ["up-sampling of", "layout", "threads", "interpolate, ms", "shifts and sums, ms", "ratio"]
    report.print_table(columns, (row for threads in args.threads for row in upsampling_rows(sizes, args, threads)))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=[*SEGMENTERS, *CLASSIFIERS])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2] if not torch.cuda.is_available() else [1])
    parser.add_argument("--seconds", type=float, default=6.0, help="seconds for each pair")
    parser.add_argument("--cpu-time", action="store_true", help="measure CPU time of this process instead of wall time")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--size", choices=["auto", "tiny", "small", "full"], default="auto")
    return parser.parse_args(argv)


def network_row(name: str, sizes: Sizes, args: argparse.Namespace, threads: int) -> list[object]:
    """Measure one network on a number of threads."""
    torch.set_num_threads(threads)
    batch_size = int(sizes.ours[name]["batch_size"])
    steps = [_network_step(name, sizes, args, last, batch_size) for last in (False, True)]
    plain, last = alternate(steps, args.seconds, _clock(args))
    return [name, batch_size, threads, 1e3 * plain, 1e3 * last, plain / last]


def _network_step(name: str, sizes: Sizes, args: argparse.Namespace, last: bool, batch_size: int) -> Step:
    device = _device()
    torch.manual_seed(0)
    model = models.build(name, sizes).to(device).train()
    images = models.example(name, sizes, batch_size, device)
    if last:
        layout = torch.channels_last_3d if images.ndim == 5 else torch.channels_last
        model, images = model.to(memory_format=layout), images.contiguous(memory_format=layout)
    network = torch.compile(model) if args.compile else model
    return partial(_step, network, images, args.precision)


def _step(network: Callable[[Tensor], Tensor], images: Tensor, precision: str) -> None:
    lower = torch.autocast(images.device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
    with lower:
        output = models.first_output(network(images))
    output.float().square().mean().backward()  # type: ignore[no-untyped-call]


def upsampling_rows(sizes: Sizes, args: argparse.Namespace, threads: int) -> Iterator[list[object]]:
    """Measure SegResNet's three up-samplings, forward and backward, in both layouts."""
    torch.set_num_threads(threads)
    batch_size, filters = int(sizes.ours["segresnet"]["batch_size"]), sizes.widths["segresnet"]["init_filters"]
    for halvings in (3, 2, 1):
        # MONAI reduces the channels first, then doubles the edges.
        shape = (batch_size, filters * 2 ** (halvings - 1), *(edge // 2**halvings for edge in sizes.resized))
        for layout in (torch.contiguous_format, torch.channels_last_3d):
            images = torch.randn(shape, device=_device()).contiguous(memory_format=layout)
            images = images.bfloat16() if args.precision == "bf16" else images
            plain, ours = alternate(
                [partial(_upsample, function, images) for function in (_interpolate, upsample_linear)],
                args.seconds / 4,
                _clock(args),
            )
            name = "channels last" if layout == torch.channels_last_3d else "plain"
            yield ["x".join(map(str, shape)), name, threads, 1e3 * plain, 1e3 * ours, plain / ours]


def _interpolate(images: Tensor) -> Tensor:
    return functional.interpolate(images, scale_factor=2, mode="trilinear", align_corners=False)


def _upsample(function: Callable[[Tensor], Tensor], images: Tensor) -> None:
    leaf = images.detach().requires_grad_()
    output = function(leaf)
    output.backward(torch.ones_like(output))  # type: ignore[no-untyped-call]


def alternate(steps: Sequence[Step], seconds: float, clock: Callable[[], float]) -> list[float]:
    """Minimum seconds of each step, alternating until the time is used up; other load only adds time."""
    for step in steps:
        for _ in range(WARM_STEPS):
            step()
    taken: list[list[float]] = [[] for _ in steps]
    end = time.perf_counter() + seconds
    while len(taken[0]) < MIN_STEPS or time.perf_counter() < end:
        for times, step in zip(taken, steps, strict=True):
            _wait()
            started = clock()
            step()
            _wait()
            times.append(clock() - started)
    return [min(times) for times in taken]


def _clock(args: argparse.Namespace) -> Callable[[], float]:
    return time.process_time if args.cpu_time else time.perf_counter


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
