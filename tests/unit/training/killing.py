"""Starts the run of `resumable` again and again, and kills it at random instants."""

from __future__ import annotations

import multiprocessing
import random
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from tests.unit.training import resumable

MAX_SECONDS = 0.8
"""From a process's first checkpoint to its end, at the longest."""


def finish_with_kills(folder: Path, num_kills: int, seed: int, epochs: int) -> tuple[int, dict[str, Tensor]]:
    """Kill that many processes, let the next one finish.

    Args:
        folder: For checkpoints and weights.
        num_kills: How often to kill.
        seed: Of the instants.
        epochs: Of the run.

    Returns:
        How many processes were killed while they ran, and the weights at the end.
    """
    draws, killed = random.Random(seed), 0  # noqa: S311
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(num_kills):
        process = start(folder, epochs)
        wait_for_progress(folder, process)
        time.sleep(draws.uniform(0, MAX_SECONDS))
        if process.is_alive():
            process.kill()
            killed += 1
        process.join()
    last = start(folder, epochs)
    last.join()
    assert last.exitcode == 0
    return killed, load_file(folder / "weights.safetensors")


def start(folder: Path, epochs: int) -> ForkServerProcess:
    """A process of the run, forked from one that has imported torch: that takes longer than the run."""
    multiprocessing.set_forkserver_preload([resumable.__name__])
    process = multiprocessing.get_context("forkserver").Process(target=resumable.main, args=(folder, epochs))
    process.start()
    return process


def wait_for_progress(folder: Path, process: ForkServerProcess) -> None:
    """Until this process has begun to write, or has ended."""
    before = set(folder.iterdir())
    while process.is_alive() and set(folder.iterdir()) == before:
        time.sleep(0.002)
