"""MLflow on a real SQLite store, read back by its own client; and stores that can't be reached."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medloop.training.tracking.base import RunInfo
from medloop.training.tracking.open import tracking
from tests.unit.training.tracking.fakes import INFO

pytestmark = pytest.mark.slow


def info(uri: str, **environ: str) -> RunInfo:
    """A run that is to be tracked at that address."""
    return RunInfo(
        INFO.task,
        INFO.hyperparameters,
        INFO.code_digest,
        INFO.data_digest,
        {**INFO.environ, "MLFLOW_TRACKING_URI": uri, **environ},
    )


def write_model(folder: Path) -> Path:
    """What stands for a model folder."""
    folder.mkdir()
    for name in ("model.safetensors", "model.json", "history.csv"):
        (folder / name).write_text(name)
    return folder


def test_a_run_is_whole_when_read_back(tmp_path: Path) -> None:
    """Parameters, metrics by step, tags, pictures, files and the model are there, and nothing pickled is."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/store/mlflow.db"
    with tracking(info(uri, MLFLOW_EXPERIMENT_NAME="night"), tmp_path) as run:
        for epoch in (1, 2):
            run.metrics({"train_loss": 1 / epoch, "val_auroc": 0.5 * epoch}, epoch)
        run.pictures(lambda: {"samples": np.full((4, 5, 3), 200, np.uint8)}, 2)
        (tracked,) = run.runs()
        run.model(write_model(tmp_path / "model"))

    assert (tracked.tracker, tracked.kind, tracked.experiment) == ("mlflow", "sqlite", "night")
    client = MlflowClient(tracking_uri=uri)
    stored = client.get_run(tracked.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.info.run_name == "pipelines-abcdefghij12-Train-0123456789"
    assert stored.data.params == {"epochs": "2", "learning_rate": "0.1"}
    assert stored.data.tags["medloop.execution"] == "abcdefghij12"
    assert stored.data.tags["medloop.training_job_arn"] == INFO.environ["TRAINING_JOB_ARN"]
    assert stored.data.tags["medloop.model_group"] == "medloop-classification"
    assert (stored.data.tags["medloop.code_digest"], stored.data.tags["medloop.data_digest"]) == ("c" * 8, "d" * 8)
    points = client.get_metric_history(tracked.run_id, "val_auroc")
    assert [(point.step, point.value) for point in points] == [(1, 0.5), (2, 1.0)]
    files = {path.relative_to(tmp_path / "store").as_posix() for path in (tmp_path / "store").rglob("*.*")}
    root = f"artifacts/night/{tracked.run_id}/artifacts"
    assert {path for path in files if path.startswith("artifacts")} == {
        f"{root}/panels/samples/epoch_0002.png",
        f"{root}/model.json",
        f"{root}/history.csv",
        *(f"{root}/model/{name}" for name in ("model.safetensors", "model.json", "history.csv")),
    }


def test_a_run_that_fails_says_so(tmp_path: Path) -> None:
    """The exception passes through; the run doesn't stay open."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracked = []

    def diverge() -> None:
        with tracking(info(uri), tmp_path) as run:
            tracked.extend(run.runs())
            raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        diverge()
    assert MlflowClient(tracking_uri=uri).get_run(tracked[0].run_id).info.status == "FAILED"


def test_several_jobs_begin_one_store_at_once(tmp_path: Path) -> None:
    """Three processes, none of which finds the store made: three runs in one experiment, each with its metric."""
    from mlflow import MlflowClient

    # Forked from a process that has imported what a tracker uses: that takes each job 6 s of CPU time.
    script = tmp_path / "trials.py"
    script.write_text(
        textwrap.dedent("""
        import os, sys
        from pathlib import Path
        import mlflow.store.tracking.sqlalchemy_store, torch.utils.tensorboard
        from medloop.training.tracking.base import RunInfo
        from medloop.training.tracking.open import tracking

        def trial(k):
            info = RunInfo("classification", {"k": k}, "c", "d", dict(os.environ))
            with tracking(info, Path(sys.argv[1], k)) as run:
                run.metrics({"score": float(k)}, 1)

        for k in "012":
            if os.fork() == 0:
                trial(k)
                sys.exit()
        sys.exit([os.wait()[1] for _ in range(3)] != [0] * 3)
        """)
    )
    uri = f"sqlite:///{tmp_path}/store/mlflow.db"
    env = {**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, str(script), str(tmp_path / "out")], env=env, timeout=240, check=True)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("medloop-classification")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.data.metrics["score"] for run in runs} == {0.0, 1.0, 2.0}
    assert {run.info.status for run in runs} == {"FINISHED"}


def closed_port(_: Path) -> str:
    """An address without a server."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def no_database(folder: Path) -> str:
    """A file that is no database."""
    (folder / "bad.db").write_bytes(b"this is no database" * 100)
    return f"sqlite:///{folder}/bad.db"


def a_file_in_the_way(folder: Path) -> str:
    """A store below a file."""
    (folder / "file").write_text("")
    return f"sqlite:///{folder}/file/mlflow.db"


@pytest.mark.parametrize("store", [closed_port, no_database, a_file_in_the_way, lambda _: "nonsense"])
def test_a_store_that_is_down_costs_a_line(
    store: Callable[[Path], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One warning; model.json gets no run; TensorBoard continues."""
    begun = time.monotonic()
    with tracking(info(store(tmp_path)), tmp_path) as run:
        run.metrics({"train_loss": 1.0}, 1)
        assert run.runs() == []
        run.model(write_model(tmp_path / "model"))
    assert time.monotonic() - begun < 45
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("tracking:")]
    assert len(lines) == 1
    assert "MLflow is off" in lines[0]
    assert list((tmp_path / "tensorboard").iterdir())
