"""Jobs of many processes on the local backend: what they see, how they are stopped, what a kill leaves."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

import medloop
from medloop.local.state.home import BUCKET
from tests.unit.local.conftest import Local, wait_until
from tests.unit.local.steps import training
from tests.unit.local.test_jobs import processes_of

pytestmark = pytest.mark.slow

CHECKPOINTS = f"s3://{BUCKET}/checkpoints/many"
PROGRAM = """
import importlib, os, sys
from pathlib import Path
from medloop.container.launch import launch
from medloop.container.run import run
from medloop.errors import MedloopError, Terminated
from medloop.training.spot_interruption import catch_sigterm

def can_import(name):
    try:
        importlib.import_module(name)
        return True
    except ModuleNotFoundError:
        return False

def main():
    launch("ddp", 2, sys.argv)
    rank, folder = os.environ["RANK"], Path(os.environ["ML_ROOT"], "checkpoints")
    checkout = ("medloop.cloud.sessions", "medloop.local.session", "pipelines", "steps.split")
    wrong = [name for name in checkout if can_import(name)]
    with catch_sigterm() as sigterm:
        (folder / f"rank-{rank}").write_text(f"{wrong} {os.getppid()} {os.environ['OMP_NUM_THREADS']}")
        sigterm.wait()
        (folder / f"saved-{rank}").touch()
        raise Terminated("stopped; the same job resumes")

run(main, kind="training")
"""


def image(local: Local) -> str:
    """The program with what it imports of this project, as a bundle has it."""
    root = Path(medloop.__file__).parent
    names = [root / "__init__.py", root / "errors.py", *sorted((root / "container").glob("*.py"))]
    names += [root / "training" / "__init__.py", root / "training" / "spot_interruption.py"]
    names += [root / "documents" / "__init__.py", root / "documents" / "json_text.py"]
    files = {str(path.relative_to(root.parent)): path.read_text(encoding="utf-8") for path in names}
    return local.image(PROGRAM, files)


def started(local: Local) -> str:
    """A job whose two processes are at work; returns the text that one of them left."""
    request: dict[str, Any] = training("Train", image(local), CheckpointConfig={"S3Uri": CHECKPOINTS})["Arguments"]
    local.sagemaker.create_training_job(TrainingJobName="many", **request)
    folder = local.home / "s3" / BUCKET / "checkpoints" / "many"
    wait_until(lambda: all((folder / f"rank-{rank}").exists() for rank in (0, 1)), 60)
    wait_until(lambda: (folder / "rank-0").read_text() and (folder / "rank-1").read_text())
    texts = [(folder / f"rank-{rank}").read_text() for rank in (0, 1)]
    assert texts[0] == texts[1]
    return texts[0]


def ended(local: Local) -> dict[str, Any]:
    """The job's description once it has ended."""
    describe = lambda: local.sagemaker.describe_training_job(TrainingJobName="many")  # noqa: E731
    wait_until(lambda: describe()["TrainingJobStatus"] not in ("InProgress", "Stopping"), 60)
    return dict(describe())


def test_processes_see_the_bundle_only_and_save_when_stopped(local: Local) -> None:
    """Torchrun's children too: nothing of the checkout; they divide the job's threads; SIGTERM reaches each."""
    cores = len(os.sched_getaffinity(0))
    seen, _, threads = started(local).rsplit(" ", 2)
    assert seen == "[]"
    assert int(threads) == max(1, cores // 2)
    local.sagemaker.stop_training_job(TrainingJobName="many")
    job = ended(local)
    assert (job["TrainingJobStatus"], job.get("FailureReason")) == ("Stopped", None)
    assert [local.read(f"{CHECKPOINTS}/saved-{rank}") for rank in (0, 1)] == [b"", b""]
    assert processes_of(local) == []


def test_a_killed_launcher_leaves_no_process(local: Local) -> None:
    """Its children are in sessions of their own, where the job's group doesn't reach them."""
    launcher = int(started(local).split()[-2])
    os.kill(launcher, signal.SIGKILL)
    job = ended(local)
    assert job["TrainingJobStatus"] == "Failed"
    assert "SIGKILL" in job["FailureReason"]
    assert processes_of(local) == []
