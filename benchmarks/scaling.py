"""DDP and FSDP2 by number of processes: samples a second, efficiency, and what each process holds.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --network swinunetr --ranks 1 2 4 8 --strategies fsdp

A process is a GPU; on a machine without, a CPU process with one thread. Each process is given the same batch whatever
their number (--fixed-batch divides one batch among them instead). Efficiency is samples a second over what as many
times one process alone would do. Synthetic volumes, patches of the size that the throughput benchmark's networks see,
the first epoch not timed. Bytes are weights and optimiser state of the process that holds most.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from workshop import data, report
from workshop.sizes import SEGMENTERS, Sizes, pick

from medloop.container import launch

PROGRAM = Path(__file__).parent / "workshop" / "rank.py"
COLUMNS = [
    "network", "strategy", "processes", "batch", "samples/s", "efficiency", "weights and optimiser, MiB a process",
    "of one process's", "peak MiB", "timed samples",
]  # fmt: skip
PATCHES = {"full": 16, "small": 4}


@dataclass(frozen=True)
class Found:
    """What one run came to."""

    strategy: str
    ranks: int
    batch_size: int
    per_second: float
    state_bytes: int
    peak_bytes: int
    samples: int


def main(argv: Sequence[str] | None = None) -> None:
    """Run all combinations, and print the table as it grows."""
    args = _arguments(argv)
    sizes = pick(args.size)
    note = f"Sizes {sizes.name}; {'one batch for all' if args.fixed_batch else 'the same batch for each process'}."
    print(report.header("scaling", [note]), flush=True)
    with tempfile.TemporaryDirectory(prefix="medloop-benchmark-") as scratch:
        processes = len(os.sched_getaffinity(0)) if sizes.name == "full" else 1
        folder = data.make(Path(scratch) / "volumes", "segmentation", sizes, processes)
        report.print_table(COLUMNS, _rows(args, sizes, folder, Path(scratch)))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="segresnet", choices=SEGMENTERS)
    parser.add_argument("--ranks", nargs="+", type=int, default=_available(), help="without 1, which is always run")
    parser.add_argument("--strategies", nargs="+", default=["ddp", "fsdp"], choices=["ddp", "fsdp"])
    parser.add_argument("--epochs", type=int, default=3, help="the first of them isn't timed")
    parser.add_argument("--fixed-batch", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a hyperparameter")
    parser.add_argument("--size", choices=["auto", "tiny", "small", "full"], default="auto")
    return parser.parse_args(argv)


def _available() -> list[int]:
    """2, 4, ... up to the GPUs, or the cores of a machine without."""
    most = torch.cuda.device_count() if torch.cuda.is_available() else len(os.sched_getaffinity(0))
    return [1 << power for power in range(1, most.bit_length())]


def _rows(args: argparse.Namespace, sizes: Sizes, folder: Path, scratch: Path) -> Iterator[list[object]]:
    alone = measure("single", 1, args, sizes, folder, scratch / "single")
    yield _row(args.network, alone, alone)
    for strategy in args.strategies:
        for ranks in (number for number in args.ranks if number > 1):
            found = measure(strategy, ranks, args, sizes, folder, scratch / f"{strategy}-{ranks}")
            yield _row(args.network, found, alone)


def _row(network: str, found: Found, alone: Found) -> list[object]:
    return [
        network, found.strategy, found.ranks, found.batch_size, found.per_second,
        f"{100 * found.per_second / (found.ranks * alone.per_second):.0f} %", report.mebibytes(found.state_bytes),
        f"{100 * found.state_bytes / alone.state_bytes:.0f} %", report.mebibytes(found.peak_bytes), found.samples,
    ]  # fmt: skip


def measure(strategy: str, ranks: int, args: argparse.Namespace, sizes: Sizes, folder: Path, out: Path) -> Found:
    """Run one combination in processes of its own.

    Raises:
        CalledProcessError: It failed; its errors were shown.
    """
    out.mkdir()
    settings = hyperparameters(strategy, ranks, args, sizes)
    words = [str(PROGRAM), str(folder), str(out), json.dumps(settings)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROGRAM.parents[1]), os.environ.get("PYTHONPATH", "")])}
    if not torch.cuda.is_available():
        env["OMP_NUM_THREADS"] = "1"
    plan = launch.Plan(ranks)
    command = launch.command(plan, words) if ranks > 1 else [sys.executable, *words]
    subprocess.run(command, env=launch.environment(plan, env), check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("rank-*.json"))]
    rates = [row["volumes_per_second"] for row in found[0]["history"][1:]]
    samples = int(settings["patches_per_volume"]) * sizes.volumes
    return Found(
        strategy=strategy,
        ranks=ranks,
        batch_size=int(settings["batch_size"]),
        per_second=len(rates) / sum(1 / rate for rate in rates),
        state_bytes=max(one["bytes"] for one in found),
        peak_bytes=max(one["peak_bytes"] for one in found),
        samples=samples * len(rates),
    )


def hyperparameters(strategy: str, ranks: int, args: argparse.Namespace, sizes: Sizes) -> dict[str, Any]:
    """Of a run."""
    one = int(sizes.ours[args.network]["batch_size"])
    values = {
        "model_name": args.network, "epochs": args.epochs, "val_interval": args.epochs, "patience": 0,
        "mode": "patch", "patch_size": list(sizes.resized), "patches_per_volume": PATCHES[sizes.name],
        "intensity": "window", "compile": False, "strategy": strategy,
        "batch_size": max(ranks, one) if args.fixed_batch else one * ranks, **sizes.widths[args.network],
    }  # fmt: skip
    return values | {name: yaml.safe_load(value) for name, value in (pair.split("=", 1) for pair in args.set)}


if __name__ == "__main__":
    main()
