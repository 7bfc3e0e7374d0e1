"""Samples per second of the workshop's loop, MONAI's recipe for fast training and medloop ("ours"), on the same data.

    python benchmarks/train_throughput.py
    python benchmarks/train_throughput.py --networks segresnet unet --minutes 8 --profile
    python benchmarks/train_throughput.py --networks segresnet --ours batch_size=16 --ours compile=false

On a GPU the sizes are full (24 volumes of 256x256x96 resized to 128x128x64; 800 images of 512x512 resized to 256x256)
and ours is compiled; on a CPU they are small, and the ratios say little about a GPU. The three run one after the other
in one process. `workshop/loops.py` describes the others; ours is `train_segmenter` and `train_classifier` as the
containers call them, with more augmentation than the others.

Not timed: the first epoch of each (caches, kernel selection, compilation: the column "before" has its seconds). The
data is generated below --data from a seed. FLOP are torch's count of the plain network, forward and backward; the share
of the floor is achieved FLOP/s over those of large matrix products on this device.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from workshop import counting, data, loops, ours, profiling, report
from workshop.loops import Throughput
from workshop.sizes import CLASSIFIERS, SEGMENTERS, Sizes, pick, task_of

LOOPS = ("workshop", "monai", "ours")
TITLES = {"workshop": "workshop's loop", "monai": "MONAI's fast recipe", "ours": "ours"}
DEFAULT = ("segresnet", "unet", "swinunetr", "densenet121")
EXPECTED_GAIN = {"segresnet": 12.0, "unet": 40.0, "swinunetr": 5.0}
"""Approximate speed-up over the workshop's loop on a GPU, to choose the number of epochs for the requested time."""
GPU_GAIN, CPU_GAIN = 14.0, 1.5
"""The same for other networks, and on a CPU."""
MIN_EPOCHS = 3
PROFILED_EPOCHS = 2
COLUMNS = [
    "network", "loop", "batch", "samples/s", "ours / it", "GFLOP a sample", "TFLOP/s", "share of the floor",
    "peak MiB", "before, s", "timed samples",
]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Measure network by network, and print the table as it grows."""
    args = _arguments(argv)
    sizes, device = pick(args.size), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    peak, how = counting.peak_flops(device)
    print(report.header("throughput of training", [f"Sizes {sizes.name}; floor: {how}."]), flush=True)
    profiles: list[tuple[str, profiling.EpochProfile]] = []
    report.print_table(
        COLUMNS, (row for name in args.networks for row in rows(name, sizes, device, args, peak, profiles))
    )
    for network, watch in profiles:
        _print_profile(network, watch)


def rows(
    network: str,
    sizes: Sizes,
    device: torch.device,
    args: argparse.Namespace,
    peak: float,
    profiles: list[tuple[str, profiling.EpochProfile]],
) -> list[list[object]]:
    """A network's rows.

    Args:
        network: Its name.
        sizes: Of data and networks.
        device: Of the baselines; ours picks the same.
        args: The command's.
        peak: FLOP/s of the floor.
        profiles: Where the network's profile goes, if there is one.
    """
    seconds = 60 * args.minutes / len(args.networks)
    task = task_of(network)
    folder = data.make(args.data / sizes.name / task, task, sizes, _processes(sizes))
    watch = profiling.EpochProfile(sizes.warm_epochs, PROFILED_EPOCHS) if args.profile else None
    results = measure(network, folder, sizes, device, args, seconds, watch)
    if watch:
        profiles.append((network, watch))
    flop = counting.flop_per_sample(network, sizes)
    return [row(network, name, results, flop, peak) for name in results]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*SEGMENTERS, *CLASSIFIERS]
    parser.add_argument("--networks", nargs="+", default=list(DEFAULT), choices=known, metavar="NAME", help=f"{known}")
    parser.add_argument("--loops", nargs="+", default=list(LOOPS), choices=LOOPS)
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="minutes of timed epochs, over all networks and loops"
    )
    parser.add_argument("--ours", action="append", default=[], metavar="NAME=VALUE", help="a hyperparameter of ours")
    parser.add_argument("--profile", action="store_true", help="print a profile of ours")
    parser.add_argument("--data", type=Path, default=Path("build/benchmarks/data"), help="folder of the generated data")
    parser.add_argument("--size", choices=["auto", "tiny", "small", "full"], default="auto")
    return parser.parse_args(argv)


def measure(
    network: str,
    folder: Path,
    sizes: Sizes,
    device: torch.device,
    args: argparse.Namespace,
    seconds: float,
    watch: profiling.EpochProfile | None,
) -> dict[str, Throughput]:
    """Run the requested loops, one after the other.

    Args:
        network: Its name.
        folder: The data.
        sizes: Of it.
        device: Of the baselines; ours picks the same.
        args: The command's.
        seconds: For all loops together.
        watch: Profiles ours.
    """
    share = seconds / len(args.loops)
    results: dict[str, Throughput] = {}
    for name in (name for name in LOOPS if name in args.loops):
        _tidy()
        torch.manual_seed(0)
        if name == "ours":
            results[name] = _measure_ours(network, folder, sizes, results, share, args.ours, watch)
            continue
        make = partial(loops.workshop if name == "workshop" else loops.monai, network, folder, sizes, device)
        baseline = sizes.workshop[task_of(network)] if name == "workshop" else sizes.monai[network]
        results[name] = loops.measure(make, baseline.batch_size, share, sizes.warm_epochs)
    return results


def _measure_ours(
    network: str,
    folder: Path,
    sizes: Sizes,
    results: dict[str, Throughput],
    seconds: float,
    pairs: Sequence[str],
    watch: profiling.EpochProfile | None,
) -> Throughput:
    changes: dict[str, Any] = {"compile": torch.cuda.is_available()}
    changes |= {name: yaml.safe_load(value) for name, value in (pair.split("=", 1) for pair in pairs)}
    settings = ours.settings(network, sizes, changes)
    slowest = min((result.per_second for result in results.values()), default=0.0)
    profiled = PROFILED_EPOCHS if watch else 0
    gain = EXPECTED_GAIN.get(network, GPU_GAIN) if torch.cuda.is_available() else CPU_GAIN
    num_epochs = math.ceil(seconds * slowest * gain / ours.count_samples(folder, settings))
    settings["epochs"] = sizes.warm_epochs + profiled + max(MIN_EPOCHS, num_epochs)
    return ours.measure(folder, settings, sizes.warm_epochs, profiled, watch)


def row(network: str, name: str, results: dict[str, Throughput], flop: float, peak: float) -> list[object]:
    """A row of the table."""
    result, mine = results[name], results.get("ours")
    gain = report.ratio(mine.per_second, result.per_second) if mine and name != "ours" else None
    rate = result.per_second * flop
    return [
        network, TITLES[name], result.batch_size, result.per_second, gain, flop / 1e9, rate / 1e12,
        f"{100 * rate / peak:.1f} %", report.mebibytes(result.peak_bytes), result.start_seconds, result.samples,
    ]  # fmt: skip


def _processes(sizes: Sizes) -> int:
    return len(os.sched_getaffinity(0)) if sizes.name == "full" else 1


def _tidy() -> None:
    """Free the memory of the last loop."""
    gc.collect()
    if torch.cuda.is_available():
        torch.compiler.reset()
        torch.cuda.empty_cache()


def _print_profile(network: str, watch: profiling.EpochProfile) -> None:
    times = watch.times()
    kind = "kernels" if torch.cuda.is_available() else "operators"
    print(f"\n{network}, ours: {kind} of {PROFILED_EPOCHS} epochs, {sum(times.values()):.3g} s in all\n")
    report.print_table(["group", "seconds", "share"], profiling.grouped(times))
    report.print_table(["largest", "group", "share"], profiling.top(times))


if __name__ == "__main__":
    main()
