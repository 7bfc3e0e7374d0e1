"""Run all benchmarks of training and inference in the size for this host (`make benchmarks`).

    make benchmarks
    make benchmarks PART=1
    make benchmarks PART=2 BENCHMARK_PYTHON=python3      # an existing environment

Prints tables in Markdown and stores them in build/benchmarks/results-*.md. A benchmark stops when its time is over,
with the rows that it has, and the next one starts. With a GPU each part takes up to ten minutes, in the full size;
on a CPU the size is small, and the numbers say nothing about a GPU. To measure on other data,
add --data (a folder for `medloop data check`; segmentation of one structure).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch

FOLDER = Path(__file__).parent
MINUTES = {1: 9.6, 2: 9.6}
"""Seconds of a part with a GPU, including start-up."""
CPU_MINUTES = 25.0


@dataclass(frozen=True)
class Entry:
    """A benchmark to run.

    Args:
        part: 1 or 2.
        minutes: At most, with a GPU; the part's own time ends it too.
        words: The script and its arguments.
    """

    part: int
    minutes: float
    arguments: tuple[str, ...]


def entries(data: Path | None, *, gpu: bool) -> list[Entry]:
    """List the benchmarks in the order of importance."""
    timed = ("--minutes", "1.2" if gpu else "1")
    scored = ("time_to_score.py", *([str(data)] if data else []), "--network", "unet", "--epochs", "10")
    layouts = ("--precision", "bf16", "--seconds", "3") if gpu else ("--cpu-time", "--threads", "1", "--seconds", "2")
    return [
        Entry(1, 8.3, ("train_throughput.py", "--networks", "segresnet", "unet", "densenet121", "--profile", *timed)),
        Entry(1, 2.0, ("sliding_window.py", "--networks", "segresnet", "unet", "--repeats", "2")),
        Entry(2, 6.2, ("train_throughput.py", "--networks", "swinunetr", "--profile", *timed)),
        Entry(2, 1.0, ("scaling.py", "--network", "segresnet")),
        Entry(2, 1.8, (*scored, "--set", "val_interval=2", "--seeds", "0", "1")),
        Entry(2, 1.5, ("layouts.py", *layouts)),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks; returns 1 if one of them failed."""
    args = _arguments(argv)
    gpu, failed = torch.cuda.is_available(), []
    args.out.mkdir(parents=True, exist_ok=True)
    for part in args.part:
        end = time.monotonic() + 60 * (MINUTES[part] if gpu else CPU_MINUTES)
        with (args.out / f"results-{part}.md").open("w", encoding="utf-8") as file:
            for entry in (candidate for candidate in entries(args.data, gpu=gpu) if candidate.part == part):
                left = end - time.monotonic()
                seconds = min(left, 60 * entry.minutes) if gpu else left
                if not run([*entry.arguments, *(["--size", args.size] if args.size else [])], seconds, file):
                    failed.append(entry.arguments[0])
    print(f"tables: {args.out}/results-*.md" + (f"; not finished: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", type=int, default=[1, 2], choices=[1, 2])
    parser.add_argument("--data", type=Path, help="for time_to_score.py")
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks"))
    parser.add_argument("--size", choices=["tiny", "small", "full"], help="override the size for this host")
    return parser.parse_args(argv)


def run(arguments: Sequence[str], seconds: float, file: TextIO) -> bool:
    """Run a script and copy its output; returns True if it succeeded within its time."""
    command = [sys.executable, "-u", str(FOLDER / arguments[0]), *arguments[1:]]
    print(f"$ {' '.join(arguments)}", file=sys.stderr, flush=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        timer = threading.Timer(max(1.0, seconds), process.terminate)
        timer.start()
        assert process.stdout is not None  # noqa: S101
        for line in process.stdout:
            print(line, end="", flush=True)
            print(line, end="", file=file, flush=True)
        code = process.wait()
        timer.cancel()
    return code == 0


if __name__ == "__main__":
    sys.exit(main())
