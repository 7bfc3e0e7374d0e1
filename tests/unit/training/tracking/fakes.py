"""Trackers that remember, raise or hang."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from medloop.documents.model import TrackingRun
from medloop.training.tracking.base import Picture, RunInfo, Status

INFO = RunInfo(
    "classification",
    {"epochs": 2, "learning_rate": 0.1},
    "c" * 8,
    "d" * 8,
    {
        "TRAINING_JOB_NAME": "pipelines-abcdefghij12-Train-0123456789",
        "TRAINING_JOB_ARN": "arn:aws:sagemaker:us-east-1:000000000000:training-job/x",
    },
)
RUN = TrackingRun(tracker="mlflow", kind="sqlite", experiment="e", run_id="r1")


class Remembering:
    """Remembers its calls by name; `failing` ones raise, `hanging` ones wait for `release`."""

    name = "fake"

    def __init__(self, failing: tuple[str, ...] = (), hanging: tuple[str, ...] = ()) -> None:
        self.failing, self.hanging = failing, hanging
        self.calls: list[str] = []
        self.release = threading.Event()

    def _called(self, method: str) -> None:
        self.calls.append(method)
        if method in self.hanging:
            self.release.wait(30)
        if method in self.failing:
            raise SystemExit(f"{method}\nfails")

    def start(self, info: RunInfo) -> TrackingRun:
        """Remember it."""
        self._called("start")
        return RUN

    def metrics(self, row: Mapping[str, float], step: int) -> None:
        """Remember it."""
        self._called("metrics")

    def picture(self, name: str, image: Picture, step: int) -> None:
        """Remember it."""
        self._called("picture")

    def artefact(self, path: Path) -> None:
        """Remember it."""
        self._called("artefact")

    def model(self, folder: Path) -> None:
        """Remember it."""
        self._called("model")

    def finish(self, status: Status) -> None:
        """Remember it."""
        self._called(f"finish {status}")
