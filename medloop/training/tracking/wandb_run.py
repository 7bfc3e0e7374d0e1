"""Weights & Biases, online or offline. Code, console output and the host's name are not sent."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from medloop.documents.model import TrackingRun
from medloop.training.tracking.base import Picture, RunInfo, Status

Mode = Literal["online", "offline"]
INIT_SECONDS: Final = 30
_QUIET: Final = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}


class WandbTracker:
    """A run of W&B.

    Args:
        mode: online sends as it goes; offline writes a folder for `wandb sync`.
        project: Its project.
        entity: Team or user; None: the key's own.
        folder: Where W&B keeps its files.
        key: For online runs. Handed to W&B alone, neither logged nor put into the environment.
    """

    name = "W&B"

    def __init__(self, mode: Mode, project: str, entity: str | None, folder: Path, key: str | None) -> None:
        if mode == "online" and key is None:
            raise ValueError("no key; set WANDB_API_KEY, or tracking.wandb_secret")
        self._mode, self._project, self._entity, self._folder, self._key = mode, project, entity, folder, key
        for variable, value in _QUIET.items():
            os.environ.setdefault(variable, value)
        os.environ.setdefault("WANDB_CACHE_DIR", str(Path(tempfile.gettempdir(), "wandb")))
        import wandb  # noqa: F401 (a second; here for the reason that MLflow's is)

    def start(self, info: RunInfo) -> TrackingRun:
        """Open the run with its parameters and tags."""
        import wandb

        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=self._project,
            entity=self._entity,
            dir=str(self._folder),
            name=info.name,
            group=info.tags.get("medloop.execution"),
            job_type="train",
            config={**info.hyperparameters, **info.tags},
            mode=self._mode,
            settings=wandb.Settings(
                api_key=self._key,
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                x_disable_machine_info=True,
                x_disable_stats=True,
                x_save_requirements=False,
                init_timeout=INIT_SECONDS,
                finish_timeout=60,
                host="medloop",
            ),
        )
        return TrackingRun(tracker="wandb", kind=self._mode, experiment=self._project, run_id=str(self._run.id))

    def metrics(self, row: Mapping[str, float], step: int) -> None:
        """Log at the epoch."""
        self._run.log(dict(row), step=step)

    def picture(self, name: str, image: Picture, step: int) -> None:
        """Log at the epoch."""
        import wandb

        self._run.log({name: wandb.Image(image)}, step=step)

    def artefact(self, path: Path) -> None:
        """Among the run's files; a copy, since W&B would keep a link."""
        copy = shutil.copy(path, self._run.dir)
        self._run.save(str(copy), base_path=str(self._run.dir), policy="now")

    def model(self, folder: Path) -> None:
        """Log as an artefact of type `model`; online only, because an offline run stores only paths of files."""
        if self._mode == "offline":
            return
        import wandb

        artefact = wandb.Artifact(f"model-{self._run.id}", type="model")
        artefact.add_dir(str(folder))
        self._run.log_artifact(artefact)

    def finish(self, status: Status) -> None:
        """Close the run and send what is left; W&B's links to its logs would lead nowhere in output.tar.gz."""
        self._run.finish(exit_code=0 if status == "finished" else 1)
        for path in self._folder.joinpath("wandb").rglob("*"):
            if path.is_symlink():
                path.unlink()
