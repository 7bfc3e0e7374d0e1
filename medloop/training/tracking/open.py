"""The trackers of a job, by its environment.

The environment is the step's (`steps/tracking.py`): MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME switch MLflow on,
WANDB_MODE=online|offline switches W&B on. Only rank 0 tracks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, cast

from medloop.documents.file_names import HISTORY_FILE, MODEL_FILE
from medloop.documents.model import TrackingRun
from medloop.training.tracking.base import Picture, RunInfo, Status, Tracker
from medloop.training.tracking.guard import MAX_REASON, Guarded
from medloop.training.tracking.mlflow_store import MlflowTracker
from medloop.training.tracking.secrets import wandb_key
from medloop.training.tracking.tensorboard import TensorBoardTracker
from medloop.training.tracking.wandb_run import WandbTracker

EVENTS_VARIABLE: Final = "MEDLOOP_TENSORBOARD_DIR"
"""Folder of TensorBoard's event files; the service copies it to S3 while the job runs."""
_MLFLOW_STORES = ("sqlite:///", "http://", "https://", "arn:")


class Tracking:
    """A run on all of its trackers, started ones. No method raises, and none waits but `runs` and `close`."""

    def __init__(self, trackers: Sequence[Guarded] = ()) -> None:
        self._trackers = tuple(trackers)

    def metrics(self, row: Mapping[str, float], step: int) -> None:
        """Log an epoch's numbers by name."""
        for tracker in self._trackers:
            tracker.metrics(row, step)

    def pictures(self, draw: Callable[[], Mapping[str, Picture]], step: int) -> None:
        """Log pictures of an epoch by name; `draw` is called only if there are trackers, and may raise."""
        if not self._trackers:
            return
        try:
            drawn = draw()
        except Exception as error:
            print(f"tracking: no pictures ({_reason(error)}); training continues", flush=True)
            return
        for name, image in drawn.items():
            for tracker in self._trackers:
                tracker.picture(name, image, step)

    def runs(self) -> list[TrackingRun]:
        """Return the run on each reachable tracker."""
        return [run for tracker in self._trackers if (run := tracker.run()) is not None]

    def model(self, folder: Path) -> None:
        """Log the finished model, and its small files again at the top of the artefacts."""
        for tracker in self._trackers:
            for file in (HISTORY_FILE, MODEL_FILE):
                tracker.artefact(folder / file)
            tracker.model(folder)

    def close(self, status: Status) -> None:
        """Close the run."""
        for tracker in self._trackers:
            tracker.finish(status)


@contextmanager
def tracking(info: RunInfo, output_dir: Path) -> Iterator[Tracking]:
    """Track a run, and close it with its status.

    Args:
        info: The run; its `environ` chooses the trackers.
        output_dir: The job's output folder, for event files unless the environment names a folder.
    """
    opened = open_trackers(info, output_dir) if info.environ.get("RANK", "0") == "0" else Tracking()
    try:
        yield opened
    except BaseException as error:
        opened.close("failed" if isinstance(error, Exception) else "killed")
        raise
    opened.close("finished")


def open_trackers(info: RunInfo, output_dir: Path) -> Tracking:
    """Start the trackers that the environment configures; log a warning for each that fails."""
    environ = info.environ
    makers: list[tuple[str, Callable[[], Tracker | None]]] = [
        ("TensorBoard", lambda: TensorBoardTracker(Path(environ.get(EVENTS_VARIABLE) or output_dir / "tensorboard"))),
        ("MLflow", lambda: _mlflow(environ, info.task)),
        ("W&B", lambda: _wandb(environ, info.task, output_dir)),
    ]
    started = []
    for name, make in makers:
        try:
            tracker = make()
        except (Exception, SystemExit) as error:
            print(f"tracking: {name} is off ({_reason(error)}); training continues", flush=True)
            continue
        if tracker is not None:
            started.append(Guarded(tracker))
            started[-1].start(info)
    return Tracking(started)


def _mlflow(environ: Mapping[str, str], task: str) -> Tracker | None:
    uri = environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not uri:
        return None
    if not uri.startswith(_MLFLOW_STORES):
        raise ValueError("TrackingUri must begin with http://, https:// or arn:; `local` is for the local target")
    return MlflowTracker(uri, environ.get("MLFLOW_EXPERIMENT_NAME") or f"medloop-{task}")


def _wandb(environ: Mapping[str, str], task: str, output_dir: Path) -> Tracker | None:
    mode = environ.get("WANDB_MODE", "").strip()
    if mode not in ("online", "offline"):
        return None
    key = wandb_key(environ) if mode == "online" else None
    project, entity = environ.get("WANDB_PROJECT") or f"medloop-{task}", environ.get("WANDB_ENTITY") or None
    return WandbTracker(cast(Literal["online", "offline"], mode), project, entity, output_dir, key)


def _reason(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:MAX_REASON]
