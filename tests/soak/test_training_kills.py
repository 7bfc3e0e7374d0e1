"""Training that is killed ten times ends with the weights of an undisturbed run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.unit.training.killing import finish_with_kills
from tests.unit.training.resumable import run, state

EPOCHS = 60
pytestmark = pytest.mark.soak


def test_ten_kills(tmp_path: Path) -> None:
    """SIGKILL at ten random instants, each after the new process has written a checkpoint; equal weights."""
    num_kills, weights = finish_with_kills(tmp_path / "killed", num_kills=10, seed=1, epochs=EPOCHS)
    assert num_kills == 10, "the run is long enough to be killed ten times"
    expected = state(run(tmp_path / "undisturbed", epochs=EPOCHS))
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
