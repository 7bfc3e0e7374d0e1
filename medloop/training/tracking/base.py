"""The interface of experiment trackers, and the description of a run.

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
    """The description of a run.

    Args:
        task: `classification` or `segmentation`.
        hyperparameters: By name, as in model.json.
        code_digest: Names the code bundle.
        data_digest: As in split.json.
        environ: The job's environment, with the service's variables of job and execution.
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
        """Tags that link the run to its job, execution, code, data and model group."""
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
    """An experiment tracker. Any method may raise: `medloop.training.tracking.guard` handles it."""

    @property
    def name(self) -> str:
        """Name in messages, such as `MLflow`."""

    def start(self, info: RunInfo) -> TrackingRun | None:
        """Open the run, log its parameters and tags, and return its identity; None if it has only files."""

    def metrics(self, row: Mapping[str, float], step: int) -> None:
        """Log an epoch's numbers by name."""

    def picture(self, name: str, image: Picture, step: int) -> None:
        """Log a picture of an epoch."""

    def artefact(self, path: Path) -> None:
        """Log a file of the run."""

    def model(self, folder: Path) -> None:
        """Log the finished model: safetensors, model.json and history.csv, never pickled objects."""

    def finish(self, status: Status) -> None:
        """Close the run."""
