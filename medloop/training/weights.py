"""Weights on disk: the best of a run so far, and the folder of the finished model. Safetensors only."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from medloop.documents.csv_text import csv_text
from medloop.documents.file_names import HISTORY_FILE, MODEL_FILE, WEIGHTS_FILE
from medloop.documents.model import ModelRecord
from medloop.errors import TargetError

BEST_FILES = "best-*.safetensors"


def best_file(folder: Path, epoch: int) -> Path:
    """Return the file of the best weights so far, named by epoch, so that older checkpoints keep theirs."""
    return folder / f"best-{epoch:05d}.safetensors"


def save_state(state: Mapping[str, Tensor], path: Path) -> None:
    """Write weights by name, atomically.

    Raises:
        TargetError: The folder can't be written to.
    """
    _write(path, lambda partial: save_file({name: value.cpu().contiguous() for name, value in state.items()}, partial))


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's weights, atomically.

    Raises:
        TargetError: The folder can't be written to.
    """
    _write(path, lambda partial: save_model(model, str(partial)))


def _write(path: Path, save: Callable[[Path], None]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        mode = partial.stat().st_mode
        save(partial)
        partial.chmod(mode)  # safetensors replaces the file by one that only its owner may read
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:  # safetensors wraps a full disk or a bad path in its own error
        raise TargetError(f"{path}: can't be written ({error}); free the disk or set another folder") from None


def write_model(model_dir: Path, model: nn.Module, record: ModelRecord, history: Sequence[Mapping[str, float]]) -> None:
    """Write the finished model: weights, history.csv, and model.json last, so that it marks a complete folder.

    Args:
        model_dir: SageMaker packs this folder as model.tar.gz.
        model: The network with the best weights.
        record: model.json.
        history: One row per epoch; columns may be missing (epochs without validation).

    Raises:
        TargetError: The folder can't be written to.
    """
    save_weights(model, model_dir / WEIGHTS_FILE)
    try:
        write_history(model_dir / HISTORY_FILE, history)
        (model_dir / MODEL_FILE).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise TargetError(
            f"{model_dir}: can't be written ({error.strerror}); free the disk or set another folder"
        ) from None


def write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write a table with one row per epoch; missing values are blank."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    rows = [[row.get(name) for name in columns] for row in history]
    path.write_text(csv_text([columns, *rows]), encoding="utf-8", newline="")
