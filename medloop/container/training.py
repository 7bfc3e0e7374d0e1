"""The job's side of SageMaker's training contract."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medloop.container.arguments import read_pairs
from medloop.container.paths import ml_root
from medloop.errors import DataError, SettingError

_CHANNEL = "channel-"
_TUNED = "_tuning_"
"""Begins the names of what the service adds to a tuned job's hyperparameters."""
_JOB_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
"""https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html"""
_FOLDERS = {"model-dir": "SM_MODEL_DIR", "output-dir": "SM_OUTPUT_DATA_DIR", "checkpoint-dir": "SM_CHECKPOINT_DIR"}


@dataclass(frozen=True)
class TrainingJob:
    """What a training job was given, and where it writes.

    Read from the command line where an argument is given, else from `SM_*` (script mode), else from the files below
    `/opt/ml` (or `ML_ROOT`).
    """

    hyperparameters: dict[str, str]
    """As on the wire: JSON text by name."""
    channels: dict[str, Path]
    model_dir: Path
    """What is written here becomes model.tar.gz."""
    output_dir: Path
    """What is written here becomes output.tar.gz."""
    checkpoint_dir: Path
    """Synchronised with S3 while the job runs; a tuned job's own part of what all trials share."""

    def channel(self, name: str) -> Path:
        """The folder of an input channel.

        Raises:
            DataError: The job was started without this channel, or it isn't there.
        """
        if name not in self.channels:
            raise DataError(f"channel {name} is missing; given: {', '.join(sorted(self.channels)) or 'none'}")
        folder = self.channels[name]
        if not folder.is_dir():
            raise DataError(f"channel {name}: {folder} is no folder; give a folder")
        return folder

    @classmethod
    def read(cls, argv: Sequence[str], environ: Mapping[str, str] | None = None) -> TrainingJob:
        """Read the contract.

        Args:
            argv: `train`, which the service passes, then any of `--channel-NAME DIR`, `--model-dir DIR`,
                `--output-dir DIR`, `--checkpoint-dir DIR` and `--HYPERPARAMETER VALUE`.
            environ: The environment; the process's own by default.

        Raises:
            SettingError: An argument or one of the contract's files can't be understood.
        """
        env = os.environ if environ is None else environ
        words = list(argv)
        if words[:1] == ["train"]:
            words.pop(0)
        pairs = read_pairs(words)
        root = ml_root()
        defaults = {"model-dir": "model", "output-dir": "output/data", "checkpoint-dir": "checkpoints"}
        folders = {
            name: Path(pairs.pop(name, "") or env.get(variable) or root / defaults[name])
            for name, variable in _FOLDERS.items()
        }
        channels = _stored_channels(root) | _script_mode_channels(env) | _given_channels(pairs)
        given = {name.replace("-", "_"): value for name, value in pairs.items() if not name.startswith(_CHANNEL)}
        hyperparameters = _stored_hyperparameters(root) | _script_mode_hyperparameters(env) | given
        name = env.get("TRAINING_JOB_NAME", "")
        if any(key.startswith(_TUNED) for key in hyperparameters) and _JOB_NAME.fullmatch(name):
            # A tuning job has one CheckpointConfig; its trials must not go on from one another's checkpoints.
            folders["checkpoint-dir"] /= name
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        return cls(hyperparameters, channels, folders["model-dir"], folders["output-dir"], folders["checkpoint-dir"])


def _given_channels(pairs: Mapping[str, str]) -> dict[str, Path]:
    return {name.removeprefix(_CHANNEL): Path(value) for name, value in pairs.items() if name.startswith(_CHANNEL)}


def _script_mode_channels(env: Mapping[str, str]) -> dict[str, Path]:
    prefix = "SM_CHANNEL_"
    return {name.removeprefix(prefix).lower(): Path(value) for name, value in env.items() if name.startswith(prefix)}


def _stored_channels(root: Path) -> dict[str, Path]:
    data = root / "input" / "data"
    names = _read_json(root / "input" / "config" / "inputdataconfig.json")
    return {name: data / name for name in names}


def _stored_hyperparameters(root: Path) -> dict[str, str]:
    return _as_text(_read_json(root / "input" / "config" / "hyperparameters.json"))


def _script_mode_hyperparameters(env: Mapping[str, str]) -> dict[str, str]:
    return _as_text(json.loads(env.get("SM_HPS", "{}")))


def _as_text(values: Mapping[str, object]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def _read_json(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise SettingError(f"{path.name}: no JSON ({error}); the job's configuration is broken") from None
    if not isinstance(values, dict):
        raise SettingError(f"{path.name}: must hold a JSON object; the job's configuration is broken")
    return values
