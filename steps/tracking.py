"""Experiment tracking of training jobs: its settings, and the environment variables that pass them to the jobs.

They are no hyperparameters and contain no key. docs/tracking.md lists what each tracker gets.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from medloop.container import paths
from medloop.errors import SettingError
from steps.base import Settings

if TYPE_CHECKING:
    from sagemaker.train import ModelTrainer

MLFLOW_URI = (
    r"|local|sqlite:////\S+|https?://[^\s@]+"
    r"|arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:\d{12}:(mlflow-tracking-server|mlflow-app)/[A-Za-z0-9-]+"
)
"""Empty, or where an MLflow store is; never with a password in it."""
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_ .:/-]+$", max_length=128)]


class TrackingSettings(Settings):
    """MLflow and Weights & Biases; TensorBoard is always on."""

    mlflow: Annotated[str, Field(max_length=500)] = ""
    """`local` (a store below MEDLOOP_HOME), an http(s) address, or a SageMaker tracking server's ARN; empty: off."""
    experiment: _Name | None = None
    """MLflow's experiment; None is medloop-<task>."""
    wandb: Literal["off", "online", "offline"] = "off"
    wandb_project: _Name | None = None
    """None is medloop-<task>."""
    wandb_entity: _Name | None = None
    wandb_secret: Annotated[str, Field(pattern=r"^[A-Za-z0-9_/+=.@:-]+$", max_length=512)] | None = None
    """Name or ARN of the secret in Secrets Manager that holds the key; None: WANDB_API_KEY of the job's environment."""

    @field_validator("mlflow")
    @classmethod
    def _is_a_store(cls, value: str) -> str:
        if "@" in urlsplit(value).netloc:
            raise ValueError("holds a user or a password, which everyone who may read the definition would see")
        if not re.fullmatch(MLFLOW_URI, value):
            raise ValueError("must be local, sqlite:////path, http(s)://..., or a tracking server's ARN")
        return value

    @field_validator("wandb", mode="before")
    @classmethod
    def _off_is_no_boolean(cls, value: Any) -> Any:
        """YAML reads `off` as false."""
        return "off" if value is False else value

    def needs_network(self) -> str | None:
        """Return the setting that opens connections; None where none does."""
        if self.wandb == "online":
            return "tracking.wandb=online"
        return "tracking.mlflow (the parameter TrackingUri)" if self.mlflow.startswith(("http", "arn:")) else None


def environment(settings: TrackingSettings, uri: Any, group: str, *, local: bool) -> dict[str, Any]:
    """Return the trackers' environment variables of training jobs, in Train and Tune.

    Args:
        settings: The trackers.
        uri: The pipeline parameter that names MLflow's store.
        group: The model group, whose name experiments have by default.
        local: Whether jobs run on this machine.

    Raises:
        SettingError: The store is local and the job runs on AWS.
    """
    if not local and settings.mlflow.startswith(("local", "sqlite:")):
        raise SettingError(
            f"tracking.mlflow={settings.mlflow}: jobs on AWS can't reach a store on this machine; "
            "give a tracking server's ARN or address"
        )
    variables = {"MLFLOW_TRACKING_URI": uri}
    variables["MLFLOW_EXPERIMENT_NAME"] = settings.experiment or group
    if settings.wandb != "off":
        variables |= {"WANDB_MODE": settings.wandb, "WANDB_PROJECT": settings.wandb_project or group}
        variables |= {"WANDB_ENTITY": settings.wandb_entity} if settings.wandb_entity else {}
        variables |= {"MEDLOOP_WANDB_SECRET": settings.wandb_secret} if settings.wandb_secret else {}
    return variables


def watch_events(trainer: ModelTrainer, folder: str) -> ModelTrainer:
    """Have TensorBoard's event files copied to the bucket while the job runs, each job to a folder of its own.

    Not for tuning: its jobs' definition has no such member, and their event files are in output.tar.gz.

    Args:
        trainer: The training job.
        folder: s3:// folder of all jobs' event files.
    """
    from sagemaker.core.shapes import TensorBoardOutputConfig

    trainer.environment = {**(trainer.environment or {}), "MEDLOOP_TENSORBOARD_DIR": paths.TENSORBOARD}
    return trainer.with_tensorboard_output_config(
        TensorBoardOutputConfig(s3_output_path=folder, local_path=paths.TENSORBOARD)
    )
