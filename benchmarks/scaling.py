"""DDP and FSDP2 by number of processes: samples per second, efficiency, and memory per process.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --network swinunetr --ranks 1 2 4 8 --strategies fsdp

A process is a GPU; without GPUs, a CPU process with one thread. Each process has the same batch size regardless of the
number of processes (--fixed-batch divides one batch among them instead). Efficiency is samples per second relative to
linear scaling of one process. Synthetic volumes, patches of the size of the throughput benchmark,
the first epoch not timed. Bytes are the maximum over processes of weights and optimiser state.
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
class Result:
    """The result of one run."""

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
    parser.add_argument(
        "--ranks", nargs="+", type=int, default=_available(), help="numbers of processes; 1 is always run"
    )
    parser.add_argument("--strategies", nargs="+", default=["ddp", "fsdp"], choices=["ddp", "fsdp"])
    parser.add_argument("--epochs", type=int, default=3, help="the first one isn't timed")
    parser.add_argument("--fixed-batch", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a hyperparameter")
    parser.add_argument("--size", choices=["auto", "tiny", "small", "full"], default="auto")
    return parser.parse_args(argv)


def _available() -> list[int]:
    """2, 4, ... up to the number of GPUs, or of cores without GPUs."""
    most = torch.cuda.device_count() if torch.cuda.is_available() else len(os.sched_getaffinity(0))
    return [1 << power for power in range(1, most.bit_length())]


def _rows(args: argparse.Namespace, sizes: Sizes, folder: Path, scratch: Path) -> Iterator[list[object]]:
    alone = measure("single", 1, args, sizes, folder, scratch / "single")
    yield _row(args.network, alone, alone)
    for strategy in args.strategies:
        for ranks in (number for number in args.ranks if number > 1):
            result = measure(strategy, ranks, args, sizes, folder, scratch / f"{strategy}-{ranks}")
            yield _row(args.network, result, alone)


def _row(network: str, result: Result, alone: Result) -> list[object]:
    return [
        network, result.strategy, result.ranks, result.batch_size, result.per_second,
        f"{100 * result.per_second / (result.ranks * alone.per_second):.0f} %", report.mebibytes(result.state_bytes),
        f"{100 * result.state_bytes / alone.state_bytes:.0f} %", report.mebibytes(result.peak_bytes), result.samples,
    ]  # fmt: skip


def measure(strategy: str, ranks: int, args: argparse.Namespace, sizes: Sizes, folder: Path, out: Path) -> Result:
    """Run one combination in separate processes.

    Raises:
        CalledProcessError: It failed; its errors were shown.
    """
    out.mkdir()
    settings = hyperparameters(strategy, ranks, args, sizes)
    program = [str(PROGRAM), str(folder), str(out), json.dumps(settings)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROGRAM.parents[1]), os.environ.get("PYTHONPATH", "")])}
    if not torch.cuda.is_available():
        env["OMP_NUM_THREADS"] = "1"
    plan = launch.LaunchPlan(ranks)
    command = launch.command(plan, program) if ranks > 1 else [sys.executable, *program]
    subprocess.run(command, env=launch.environment(plan, env), check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("rank-*.json"))]
    patches = int(settings["patches_per_volume"])
    rates = [patches * row["volumes_per_second"] for row in records[0]["history"][1:]]
    samples = patches * sizes.volumes
    return Result(
        strategy=strategy,
        ranks=ranks,
        batch_size=int(settings["batch_size"]),
        per_second=len(rates) / sum(1 / rate for rate in rates),
        state_bytes=max(record["bytes"] for record in records),
        peak_bytes=max(record["peak_bytes"] for record in records),
        samples=samples * len(rates),
    )


def hyperparameters(strategy: str, ranks: int, args: argparse.Namespace, sizes: Sizes) -> dict[str, Any]:
    """Make the hyperparameters of a run."""
    batch_size = int(sizes.ours[args.network]["batch_size"])
    values = {
        "model_name": args.network, "epochs": args.epochs, "val_interval": args.epochs, "patience": 0,
        "mode": "patch", "patch_size": list(sizes.resized), "patches_per_volume": PATCHES[sizes.name],
        "intensity": "window", "compile": False, "strategy": strategy,
        "batch_size": max(ranks, batch_size) if args.fixed_batch else batch_size * ranks, **sizes.widths[args.network],
    }  # fmt: skip
    return values | {name: yaml.safe_load(value) for name, value in (pair.split("=", 1) for pair in args.set)}


if __name__ == "__main__":
    main()
