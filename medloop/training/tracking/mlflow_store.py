"""MLflow, through its client: nothing global, nothing pickled.

The model is logged as files (safetensors, model.json), not by `mlflow.pytorch.log_model`, which pickles.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final

from medloop.documents.model import TrackingRun
from medloop.training.file_lock import lock_file
from medloop.training.tracking.base import Picture, RunInfo, Status

if TYPE_CHECKING:
    from mlflow import MlflowClient

_QUIET: Final = {
    # A server that is down costs seconds, not the default's quarter of an hour.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_SQLITE: Final = "sqlite:///"
_TRAINING: Final = {"mlflow.experimentKind": "custom_model_development"}
"""Has MLflow's page show runs and their curves; it would begin with traces of language models."""
_LOCK_SECONDS: Final = 75.0
"""Timeout for another job that opens the store for the first time, which creates its tables."""
_MAX_VALUE: Final = 500
"""Characters of a parameter's value; the oldest servers take no more."""
_STATUS: Final[dict[Status, str]] = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}


class MlflowTracker:
    """A run on an MLflow store: a SQLite file, a server, or SageMaker's managed server by its ARN.

    Args:
        uri: `sqlite:///...`, `http(s)://...`, or an ARN (through the plugin sagemaker-mlflow).
        experiment: Made when absent.
    """

    name = "MLflow"

    def __init__(self, uri: str, experiment: str) -> None:
        self._uri, self._experiment = uri, experiment
        for variable, value in _QUIET.items():
            os.environ.setdefault(variable, value)
        # Here, not in `start`: two threads that import the same packages can meet half-made modules.
        import mlflow  # noqa: F401 (2 to 4 s)

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)

    def start(self, info: RunInfo) -> TrackingRun:
        """Open the run with its parameters and tags."""
        from mlflow import MlflowClient
        from mlflow.entities import Param

        database = Path(self._uri.removeprefix(_SQLITE)) if self._uri.startswith(_SQLITE) else None
        # One process at a time: the first one makes a SQLite store's tables, and two can't do it at once.
        lock = lock_file(database.with_suffix(".lock"), wait_seconds=_LOCK_SECONDS) if database else nullcontext()
        with lock:
            self._client = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
            identifier = _experiment_id(self._client, database, self._experiment)
        run = self._client.create_run(identifier, run_name=info.name, tags={**info.tags, "mlflow.source.type": "JOB"})
        self._run: str = run.info.run_id
        params = [Param(name, str(value)[:_MAX_VALUE]) for name, value in info.hyperparameters.items()]
        self._client.log_batch(self._run, params=params)
        kind = "arn" if self._uri.startswith("arn:") else self._uri.partition(":")[0]
        return TrackingRun(tracker="mlflow", kind=kind, experiment=self._experiment, run_id=self._run)

    def metrics(self, row: Mapping[str, float], step: int) -> None:
        """Send one request per epoch."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        values = [Metric(name, float(value), now, step) for name, value in row.items()]
        self._client.log_batch(self._run, metrics=values)

    def picture(self, name: str, image: Picture, step: int) -> None:
        """Log as `panels/<name>/epoch_0007.png`."""
        self._client.log_image(self._run, image, artifact_file=f"panels/{name}/epoch_{step:04}.png")

    def artefact(self, path: Path) -> None:
        """Log at the top of the run's artefacts."""
        self._client.log_artifact(self._run, str(path))

    def model(self, folder: Path) -> None:
        """Log as the folder `model` of the run's artefacts."""
        self._client.log_artifacts(self._run, str(folder), "model")

    def finish(self, status: Status) -> None:
        """Close the run."""
        self._client.set_terminated(self._run, _STATUS[status])


def _experiment_id(client: MlflowClient, database: Path | None, name: str) -> str:
    """Find the experiment's identifier; of two jobs that make it at once, one finds the other's."""
    from mlflow.exceptions import MlflowException

    if experiment := client.get_experiment_by_name(name):
        return str(experiment.experiment_id)
    # Without a server in between, the client would put artefacts below the job's own folder.
    location: dict[str, str] = {}
    if database:
        location["artifact_location"] = database.parent.joinpath("artifacts", name).as_uri()
    try:
        return str(client.create_experiment(name, tags=_TRAINING, **location))
    except MlflowException:
        if experiment := client.get_experiment_by_name(name):
            return str(experiment.experiment_id)
        raise
