"""What every experiment tracker does, and what a run tells it.

Images are RGB, uint8 [H, W, 3]. Steps are epochs, counted from 1. Torch-free, as all interfaces of trackers are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medloop.documents.model import TrackingRun

Picture: TypeAlias = NDArray[np.uint8]
"""RGB, [H, W, 3]."""
Status = Literal["finished", "failed", "killed"]
_JOB_OF_PIPELINE = re.compile(r"pipelines?-([a-z0-9]{12})-")


@dataclass(frozen=True)
class RunInfo:
    """What a run is, before its first epoch.

    Args:
        task: `classification` or `segmentation`.
        hyperparameters: By name, as in model.json.
        code_digest: Names the code bundle.
        data_digest: As in split.json.
        environ: The job's environment; the service's variables say which job and which execution it is.
    """

    task: str
    hyperparameters: Mapping[str, Any]
    code_digest: str
    data_digest: str
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str | None:
        """The training job's name; None outside a job."""
        return self.environ.get("TRAINING_JOB_NAME")

    @property
    def tags(self) -> dict[str, str]:
        """What links the run to its job, its execution, its code, its data and its model group."""
        tags = {
            "medloop.task": self.task,
            "medloop.model_group": f"medloop-{self.task}",
            "medloop.code_digest": self.code_digest,
            "medloop.data_digest": self.data_digest,
        }
        if self.name:
            tags["medloop.training_job"] = self.name
            tags |= {"medloop.execution": match[1]} if (match := _JOB_OF_PIPELINE.match(self.name)) else {}
        if arn := self.environ.get("TRAINING_JOB_ARN"):
            tags["medloop.training_job_arn"] = arn
        return tags


class Tracker(Protocol):
    """One experiment tracker. Any method may raise: `medloop.training.tracking.guard` keeps it from the run."""

    @property
    def name(self) -> str:
        """For messages, such as `MLflow`."""

    def start(self, info: RunInfo) -> TrackingRun | None:
        """Open the run, log its parameters and tags, and say how it is found again; None: by its files alone."""

    def metrics(self, row: Mapping[str, float], step: int) -> None:
        """An epoch's numbers by name."""

    def picture(self, name: str, image: Picture, step: int) -> None:
        """A picture of that epoch."""

    def artefact(self, path: Path) -> None:
        """A file that belongs to the run."""

    def model(self, folder: Path) -> None:
        """The finished model: safetensors, model.json and history.csv, never anything pickled."""

    def finish(self, status: Status) -> None:
        """Close the run."""
