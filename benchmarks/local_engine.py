"""Seconds of commands that build a definition, with and without a remembered one.

    python benchmarks/local_engine.py
    python benchmarks/local_engine.py --repeats 10

Each command runs in a process of its own: `pipelines definition`, and `run` on unchanged data, whose jobs come from the
step cache. Built and remembered alternate, so that other load on the host affects both; the minimum of each is printed
with its ratio. CPU time is that of the command, without the engine's process, which both start alike.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from workshop import report

from medloop.cloud.definition_cache import CACHE_VARIABLE
from medloop.local.state.home import HOME_VARIABLE

NEVER_STORED = "/dev/null/none"
SMALL = ("--set", "smoke=true", *(f"--param={text}" for text in ("ModelName=resnet18", "Epochs=1", "MinScore=0")))
DEFINITION = ("pipelines", "definition", "classification")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    args = _arguments(argv)
    print(report.header("commands with built and remembered definitions"))
    with tempfile.TemporaryDirectory(prefix="medloop-benchmark-") as scratch:
        folder = Path(scratch)
        commands = {"pipelines definition": DEFINITION}
        if not args.definition_only:
            data = folder / "data"
            write_images(data)
            commands["run, unchanged"] = ("run", "classification", "--data", str(data), *SMALL)
        columns = ["command", "seconds of", "built", "remembered", "built / remembered"]
        rows = (
            row for name, arguments in commands.items() for row in command_rows(name, arguments, folder, args.repeats)
        )
        report.print_table(columns, rows)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--definition-only", action="store_true", help="without `run`, whose first run trains")
    return parser.parse_args(argv)


def write_images(folder: Path, num_images: int = 20) -> None:
    """Write a data set of two classes of noise, one brighter than the other."""
    random = np.random.default_rng(0)
    for shift, name in ((0, "dark"), (120, "bright")):
        (folder / name).mkdir(parents=True)
        for number in range(num_images):
            pixels = (shift + random.integers(0, 100, (48, 48))).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03}.png")


def command_rows(name: str, arguments: Sequence[str], folder: Path, repeats: int) -> list[list[object]]:
    """Wall and CPU seconds of a command, built and remembered, after one run of it that isn't measured."""
    caches = (NEVER_STORED, str(folder / "cache"))
    home = {HOME_VARIABLE: str(folder / "home")}
    seconds(arguments, home | {CACHE_VARIABLE: caches[1]})
    taken = [[seconds(arguments, home | {CACHE_VARIABLE: cache}) for cache in caches] for _ in range(repeats)]
    rows: list[list[object]] = []
    for index, clock in enumerate(("wall time", "CPU time")):
        built, remembered = (min(pair[which][index] for pair in taken) for which in (0, 1))
        rows.append([name, clock, built, remembered, report.ratio(built, remembered)])
    return rows


def seconds(arguments: Sequence[str], variables: Mapping[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command in a new process.

    Raises:
        RuntimeError: The command fails.
    """
    command = [sys.executable, "-m", "medloop.cli", *arguments]
    started = time.perf_counter()
    silent = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
    process = os.posix_spawn(sys.executable, command, {**os.environ, **variables}, file_actions=silent)
    _, status, usage = os.wait4(process, 0)
    if status != 0:
        raise RuntimeError(f"medloop {' '.join(arguments)}: exit status {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
