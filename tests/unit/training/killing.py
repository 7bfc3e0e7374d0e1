"""Starts the run of `resumable` again and again, and kills it at random instants."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

ROOT = Path(__file__).parents[3]
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
        if process.poll() is None:
            process.kill()
            killed += 1
        process.wait()
    assert start(folder, epochs).wait() == 0
    return killed, load_file(folder / "weights.safetensors")


def start(folder: Path, epochs: int) -> subprocess.Popen[bytes]:
    """A process of the run."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.unit.training.resumable", str(folder), str(epochs)], env=environment
    )


def wait_for_progress(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Until this process has begun to write, or has ended."""
    before = set(folder.iterdir())
    while process.poll() is None and set(folder.iterdir()) == before:
        time.sleep(0.002)
