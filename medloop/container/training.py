"""The job's side of SageMaker's training contract."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medloop.container.arguments import read_pairs, with_prefix
from medloop.container.paths import ml_root
from medloop.documents.json_text import parse_json, read_json
from medloop.errors import DataError, SettingError

_CHANNEL = "channel-"
_TUNED = "_tuning_"
"""Prefix of hyperparameters that the service adds to a trial's."""
_JOB_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
"""https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html"""
_FOLDERS = {"model-dir": "SM_MODEL_DIR", "output-dir": "SM_OUTPUT_DATA_DIR", "checkpoint-dir": "SM_CHECKPOINT_DIR"}


@dataclass(frozen=True)
class TrainingJob:
    """Hyperparameters, channels and output folders of a training job.

    Arguments override `SM_*` (script mode), which overrides the files in `/opt/ml` (or `ML_ROOT`).
    """

    hyperparameters: dict[str, str]
    """JSON text by name, as on the wire."""
    channels: dict[str, Path]
    model_dir: Path
    """Its content becomes model.tar.gz."""
    output_dir: Path
    """Its content becomes output.tar.gz."""
    checkpoint_dir: Path
    """Synchronised with S3 while the job runs; a trial has its own subfolder."""

    def channel(self, name: str) -> Path:
        """Return the folder of an input channel.

        Raises:
            DataError: The job has no such channel, or its folder is missing.
        """
        if name not in self.channels:
            raise DataError(f"channel {name} is missing; given: {', '.join(sorted(self.channels)) or 'none'}")
        folder = self.channels[name]
        if not folder.is_dir():
            raise DataError(f"channel {name}: {folder} is not a folder; set a folder")
        return folder

    @classmethod
    def read(cls, argv: Sequence[str], environ: Mapping[str, str] | None = None) -> TrainingJob:
        """Read the contract.

        Args:
            argv: `train`, which the service passes, then any of `--channel-NAME DIR`, `--model-dir DIR`,
                `--output-dir DIR`, `--checkpoint-dir DIR` and `--HYPERPARAMETER VALUE`.
            environ: The environment; the process's own by default.

        Raises:
            SettingError: An argument or a file of the contract is malformed.
        """
        env = os.environ if environ is None else environ
        pairs = read_pairs(argv[1:] if list(argv[:1]) == ["train"] else argv)
        root = ml_root()
        defaults = {"model-dir": "model", "output-dir": "output/data", "checkpoint-dir": "checkpoints"}
        folders = {
            name: Path(pairs.pop(name, "") or env.get(variable) or root / defaults[name])
            for name, variable in _FOLDERS.items()
        }
        channels = {name: root / "input" / "data" / name for name in _read_json(root, "inputdataconfig.json")}
        channels |= {name.lower(): Path(folder) for name, folder in with_prefix(env, "SM_CHANNEL_").items()}
        channels |= {name: Path(folder) for name, folder in with_prefix(pairs, _CHANNEL).items()}
        arguments = {name.replace("-", "_"): value for name, value in pairs.items() if not name.startswith(_CHANNEL)}
        stored, script_mode = _read_json(root, "hyperparameters.json"), parse_json(env.get("SM_HPS", "{}"))
        hyperparameters = _as_text(stored | script_mode) | arguments
        name = env.get("TRAINING_JOB_NAME", "")
        if any(key.startswith(_TUNED) for key in hyperparameters) and _JOB_NAME.fullmatch(name):
            # A tuning job has one CheckpointConfig; its trials must not resume from each other's checkpoints.
            folders["checkpoint-dir"] /= name
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        return cls(hyperparameters, channels, folders["model-dir"], folders["output-dir"], folders["checkpoint-dir"])


def _as_text(values: Mapping[str, object]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def _read_json(root: Path, name: str) -> dict[str, object]:
    path = root / "input" / "config" / name
    if not path.is_file():
        return {}
    try:
        values = read_json(path)
    except (ValueError, OSError) as error:
        raise SettingError(f"{path.name}: not JSON ({error}); start the job again") from None
    if not isinstance(values, dict):
        raise SettingError(f"{path.name}: not a JSON object; start the job again")
    return values
