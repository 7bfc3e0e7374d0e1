"""Training is stopped and resumed through the command line: Spot training, two processes (DDP), locally."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.endtoend.test_local_run import SMALL, wait_for

pytestmark = pytest.mark.slow

SPOT = (
    *("--set", "train.spot=true", "--set", "train.keep_alive_minutes=0", "--param", "MinScore=0"),
    *("--set", "train.hyperparameters.strategy=ddp", "--set", "train.hyperparameters.patience=0"),
    *("--param", "Epochs=6"),
)


def log_of(medloop: Any) -> str:
    """The log of the training jobs of the newest execution."""
    return "\n".join(path.read_text() for path in medloop.home.glob("logs/aws/sagemaker/TrainingJobs/*/algo-1"))


def epochs(text: str) -> list[int]:
    """The epochs in a log, in order."""
    return [int(number) for number in re.findall(r"epoch=(\d+); train_loss", text)]


def test_a_stopped_spot_job_resumes(medloop: Any, images: Path) -> None:
    """Stop, then retry: every epoch is trained once, and the version has the complete history.

    Two processes write as one does: each metric once in the log, one model, one file of events for each job.
    """
    assert medloop("run", "classification", "--data", str(images), *SMALL, *SPOT, "--no-wait") == 0, medloop.err
    wait_for(lambda: len(epochs(log_of(medloop))) >= 2)
    assert medloop("executions", "stop", "latest") == 0, medloop.err
    wait_for(lambda: medloop.json("executions", "show", "latest")["status"] == "Stopped")
    before = log_of(medloop)
    stopped = re.search(r"stopped by SIGTERM in epoch (\d+) after (\d+) of its steps", before)
    assert stopped is not None, before
    assert medloop("executions", "retry", "latest", "--json") == 0, medloop.err
    assert json.loads(medloop.out)["execution"]["status"] == "Succeeded"
    after = log_of(medloop)
    assert f"epoch {stopped[1]}, after {stopped[2]} of its steps" in after
    assert len(set(epochs(after))) == len(epochs(after))
    assert len(re.findall(r" strategy=ddp: (?:2 processes|one GPU)", after)) == 2
    assert len(re.findall(r" val_auroc=[\d.]+;$", after, re.MULTILINE)) == 1
    events = [path for path in medloop.home.rglob("events.out.tfevents.*") if not path.is_symlink()]
    assert len(events) == 2, events
    (packed,) = medloop.home.rglob("model.tar.gz")
    with tarfile.open(packed) as archive:
        names = {Path(name).name for name in archive.getnames()} - {".", ""}
        assert names == {"model.json", "model.safetensors", "history.csv"}
        history = archive.extractfile("history.csv")
        assert history is not None
        rows = history.read().decode().splitlines()[1:]
    assert [float(row.split(",")[0]) for row in rows] == list(range(1, 7))
