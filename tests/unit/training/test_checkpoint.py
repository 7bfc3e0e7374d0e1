"""Manifests of checkpoints that someone else wrote, or that were damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medloop.errors import DataError
from medloop.training.checkpoint import CheckpointWriter, read_manifest
from medloop.training.ranks import ALONE

HOSTILE = ['{"x": 1}', '{"epoch": Infinity}', '{"epoch": NaN}', '{"epoch": "one"}', "{}", "7"]


def write_manifest(folder: Path, row: str) -> Path:
    """A checkpoint whose history has one row, as it is given."""
    checkpoint = folder / "step-000000001"
    checkpoint.mkdir()
    manifest = {"version": 1, "run": "r", "progress": {"history": ["ROW"]}, "best_file": "best-1.safetensors"}
    text = json.dumps({**manifest, "files": {}}).replace('"ROW"', row)
    (checkpoint / "checkpoint.json").write_text(text)
    return checkpoint


def test_a_row_is_read_with_an_integer_epoch(tmp_path: Path) -> None:
    """JSON's numbers are floats; the epoch is a count."""
    (row,) = read_manifest(write_manifest(tmp_path, '{"epoch": 2.0, "loss": 0.5}')).progress.history
    assert [str(value) for value in row.values()] == ["2", "0.5"]


@pytest.mark.parametrize("row", HOSTILE)
def test_a_row_without_a_whole_epoch_is_damage(tmp_path: Path, row: str) -> None:
    """It makes the checkpoint a torn one, which resume skips, and never ends the run."""
    with pytest.raises(DataError, match=r"torn, checkpoint\.json is damaged"):
        read_manifest(write_manifest(tmp_path, row))


def test_old_best_weights_are_deleted_despite_a_damaged_checkpoint(tmp_path: Path) -> None:
    """A damaged checkpoint names no best weights, and doesn't end the run."""
    write_manifest(tmp_path, HOSTILE[0])
    for number in (1, 2):
        (tmp_path / f"best-{number}.safetensors").touch()
    CheckpointWriter(tmp_path, "r", 2, ALONE).delete_old_best(tmp_path / "best-2.safetensors")
    assert [path.name for path in tmp_path.glob("best-*")] == ["best-2.safetensors"]
