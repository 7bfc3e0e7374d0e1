"""Settings and folders of a training job's trackers, which SageMaker provides on AWS."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from medloop.container.paths import TENSORBOARD
from medloop.local.state.home import Home
from medloop.local.state.objects import Objects, split_uri
from medloop.local.state.store import Document

LOCAL = "local"
"""The TrackingUri that means the store below MEDLOOP_HOME: the same word in every definition and every execution."""


def store_uri(home: Home) -> str:
    """MLflow's store of this home."""
    return f"sqlite:///{home.root / 'mlflow' / 'mlflow.db'}"


def environment(home: Home, requested: Mapping[str, str]) -> dict[str, str]:
    """A job's environment with `local` resolved and, for W&B online only, the user's own key."""
    variables = dict(requested)
    if variables.get("MLFLOW_TRACKING_URI") == LOCAL:
        variables["MLFLOW_TRACKING_URI"] = store_uri(home)
    if variables.get("WANDB_MODE") == "online" and "WANDB_API_KEY" in os.environ:
        variables.setdefault("WANDB_API_KEY", os.environ["WANDB_API_KEY"])
    return variables


def written_folders(home: Home, variables: Mapping[str, str]) -> list[Path]:
    """The folders that a job with this environment writes to outside its own: the local store's."""
    return [home.folder("mlflow")] if variables.get("MLFLOW_TRACKING_URI") == store_uri(home) else []


def connects(variables: Mapping[str, str]) -> bool:
    """True if a job with this environment reports to a server."""
    return variables.get("MLFLOW_TRACKING_URI", "").startswith("http") or variables.get("WANDB_MODE") == "online"


def link_events(objects: Objects, job: Document, ml: Path) -> list[Path]:
    """Link the folder of TensorBoard's events to the bucket's own, which the job may write; returns the latter."""
    config = job.get("TensorBoardOutputConfig")
    if not config:
        return []
    bucket, prefix = split_uri(config["S3OutputPath"])
    stored = objects.folder(bucket, f"{prefix.rstrip('/')}/{job['TrainingJobName']}/tensorboard-output")
    link = ml / Path(config.get("LocalPath", TENSORBOARD)).relative_to(Path(TENSORBOARD).parents[1])
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(stored, target_is_directory=True)
    return [stored]
