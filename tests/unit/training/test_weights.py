"""Weights on disk (medloop.training.weights)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from medloop.training.weights import save_state, save_weights


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """What this process keeps from others."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_weights_are_readable_as_the_other_files(tmp_path: Path, umask: int) -> None:
    """A server of another user reads the model folder; a umask that keeps files private does so here too."""
    save_weights(nn.Linear(1, 1), tmp_path / "model.safetensors")
    save_state({"weight": torch.zeros(1)}, tmp_path / "best.safetensors")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(["model.safetensors", "best.safetensors"], 0o666 & ~umask)
