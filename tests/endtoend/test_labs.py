"""One lab of each task in its smoke size; `make soak` runs all ten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medloop.samples.tissue import make_brain_tissue
from tests.endtoend.labs import run_lab

pytestmark = pytest.mark.slow


def test_lab_03_trains_evaluates_and_registers_a_classifier(medloop: Any, images: Path) -> None:
    """The report exists, and the version's metadata names the data."""
    outcome = run_lab(medloop, "lab-03-own-container", images)
    assert Path(outcome["report"]).is_file()
    version = medloop.json("models", "show", outcome["model"])
    assert version["approval"] == "PendingManualApproval"
    assert version["metadata"]["data_version"]


def test_lab_5_tunes_and_registers_the_best_segmenter(medloop: Any, tmp_path: Path) -> None:
    """Two trials with different hyperparameters; the better model is registered."""
    outcome = run_lab(medloop, "lab-5-tuning", make_brain_tissue(tmp_path / "brain", num_subjects=6))
    shown = medloop.json("executions", "show", outcome["execution"]["id"])
    (tuning,) = shown["tunings"]
    assert len(tuning["trials"]) == 2
    (best,) = [trial for trial in tuning["trials"] if trial["best"]]
    assert best["objective"] == max(trial["objective"] for trial in tuning["trials"])
    version = medloop.json("models", "show", outcome["model"])
    assert best["job"] in version["artefact"]
