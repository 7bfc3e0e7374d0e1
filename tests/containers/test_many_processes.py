"""A training container in two processes, started by its own entry point: FSDP, stop and resume.

The other one does so by DDP in tests/endtoend/test_resume.py.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medloop.checkout import REPOSITORY
from medloop.container.failures import TERMINATED
from tests.containers.test_segment import HYPERPARAMETERS, stage
from tests.programs import Programs

pytestmark = pytest.mark.slow


def start(root: Path) -> subprocess.Popen[str]:
    """Start the segmentation container; both its outputs are piped."""
    environment = {**os.environ, "ML_ROOT": str(root), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "2"}
    command = [sys.executable, str(REPOSITORY / "containers" / "segment" / "main.py"), "train"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def newest(root: Path) -> dict[str, Any]:
    """Where the newest checkpoint's run was."""
    folder = max((root / "checkpoints").glob("step-*"))
    progress: dict[str, Any] = json.loads((folder / "checkpoint.json").read_text(encoding="utf-8"))["progress"]
    return progress


def test_a_segmenter_stopped_in_two_processes_goes_on_in_one(programs: Programs, tmp_path: Path) -> None:
    """FSDP; SIGTERM to the launcher writes a checkpoint and ends with 143; another number of processes takes it up."""
    root = tmp_path / "ml"
    stage(root, HYPERPARAMETERS | {"strategy": "fsdp", "processes": 2, "epochs": 3000, "patience": 0})
    (root / "output").mkdir()
    process = start(root)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch=3;"):
            break
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == TERMINATED, err
    assert not (root / "output" / "failure").exists()
    stopped = re.search(r"stopped by SIGTERM in epoch (\d+) after (\d) of its steps", err)
    assert stopped is not None, err
    epoch, step = int(stopped[1]), int(stopped[2])
    progress = newest(root)
    assert (progress["epoch"], progress["step"], progress["total_steps"]) == (epoch, step, epoch - 1 + step)
    # An epoch has one step; one epoch is all that this run has time for.
    options = ("--processes", "1", "--max_minutes", "0.000001")
    out = programs.run("containers/segment/main.py", "train", *options, ML_ROOT=str(root)).stdout
    assert f"resumed from checkpoint step-{progress['total_steps']:09d}: epoch {epoch}" in out
    assert [line.split(";")[0] for line in out.splitlines() if line.startswith("epoch=")] == [f"epoch={epoch}"]
    assert (root / "model" / "model.json").is_file()
