"""All ten labs of the workshop in their smoke sizes, on the sample data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from medloop.samples.plane import make_plane
from medloop.samples.tissue import make_brain_tissue
from tests.endtoend.conftest import CommandLine
from tests.endtoend.labs import LABS, run_lab

pytestmark = pytest.mark.soak

STRATEGIES = {"lab-2-fsdp": "fsdp", "lab-4-unified-tracking": "ddp"}
"""Labs with several processes."""


@pytest.fixture(scope="module")
def medloop(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """The command line with one home for all labs."""
    return CommandLine(tmp_path_factory.mktemp("labs") / ".medloop")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A sample data set for each task."""
    folder = tmp_path_factory.mktemp("samples")
    brain = make_brain_tissue(folder / "brain", num_subjects=8)
    return {"classification": make_plane(folder / "plane"), "segmentation": brain}


def test_there_are_ten_labs() -> None:
    """Five for classification, five for segmentation."""
    assert sorted(preset.pipeline for preset in LABS.values()) == ["classification"] * 5 + ["segmentation"] * 5


@pytest.mark.parametrize("name", LABS)
def test_a_lab_registers_a_version(medloop: Any, samples: dict[str, Path], name: str) -> None:
    """From the data to a registered version with a report."""
    outcome = run_lab(medloop, name, samples[LABS[name].pipeline])
    assert Path(outcome["report"]).is_file()
    strategy = STRATEGIES.get(name)
    if strategy and not torch.cuda.is_available():
        assert medloop("executions", "logs", outcome["execution"]["id"], "Train") == 0
        assert f"strategy={strategy}: 2 processes" in medloop.out
