"""A second model meets the first, which was approved: by the command line alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.endtoend.test_local_run import SMALL, STATED

pytestmark = pytest.mark.slow
NAME = "medloop-classification"


def test_the_next_model_is_compared_with_the_approved_one(medloop: Any, images: Path) -> None:
    """Version 1 says nothing of its use: Rejected. Stated, it is registered from the cache, and approved as another.

    The next one's evaluation.json, page and refusal name that version and the difference.
    """
    rows = [f"{path.relative_to(images).as_posix()},{path.parent.name}-{path.stem}" for path in images.rglob("*.png")]
    (images / "patients.csv").write_text("path,patient\n" + "\n".join(rows) + "\n")
    shares = [part for name in ("train=0.4", "val=0.2", "test=0.4") for part in ("--set", f"split.{name}")]
    run = ("run", "classification", "--data", str(images), *SMALL, *shares)
    unstated = medloop.json(*run, "--param", "MinScore=0")
    assert unstated["approval"] == "Rejected"
    assert medloop("models", "approve", f"{NAME}/1", "--reason", "the first", "--as", "QM", "--yes") == 2
    assert "registration.intended_use, registration.population" in medloop.err
    run = (*run, *STATED)
    first = medloop.json(*run, "--param", "MinScore=0")
    assert (first["model"], first["approval"]) == (f"{NAME}/2", "PendingManualApproval")
    cached = {step["name"] for step in first["execution"]["steps"] if step["cached"]}
    assert cached == {"Split", "Train", "Evaluate"}
    alone = json.loads((Path(first["report"]).parent / "evaluation.json").read_text())
    assert (alone["gate"]["champion"], alone["comparisons"], alone["test_uses"]) == ("", [], 1)
    approve = ("models", "approve", f"{NAME}/2", "--reason", "the first")
    assert medloop(*approve) == 2
    assert "another person approves: --as NAME" in medloop.err
    assert medloop(*approve, "--as", "QM") == 0, medloop.err

    other = (*run, "--set", "train.hyperparameters.seed=7")
    assert medloop(*other, "--param", "MinScore=1.5") == 1
    refusal = medloop.err.splitlines()[-1]
    assert f"Difference from the champion {first['model_arn']}" in refusal, refusal

    second = medloop.json(*other, "--param", "MinScore=0")
    assert second["model"] == f"{NAME}/3"
    folder = Path(second["report"]).parent
    found = json.loads((folder / "evaluation.json").read_text())
    (comparison,) = found["comparisons"]
    assert (comparison["role"], comparison["model"]) == ("champion", first["model_arn"])
    assert comparison["score_model"] == pytest.approx(alone["score"]["value"])
    assert comparison["difference"] == pytest.approx(found["score"]["value"] - alone["score"]["value"])
    assert comparison["num_patients"] == found["gate"]["num_patients"] == alone["data"]["num_patients"]
    assert (found["gate"]["sufficient"], found["gate"]["margin_left"]) == (0, 0.0)
    assert found["test_uses"] == 2
    assert first["model_arn"] in (folder / "report.html").read_text()
    registration = json.loads((folder / "registration.json").read_text())
    assert (registration["champion"], registration["test_uses"]) == (first["model_arn"], "2")
