"""A second model is compared with the approved first one, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.endtoend.test_local_run import SMALL, STATED

pytestmark = pytest.mark.slow
NAME = "medloop-classification-bilder-fur-alle"


def test_a_candidate_is_compared_with_the_champion(medloop: Any, images: Path) -> None:
    """A version without model card fields is Rejected; with them it is registered from the cache, and can be approved.

    The next candidate's evaluation.json, page and refusal name the champion and the difference.
    """
    rows = [f"{path.relative_to(images).as_posix()},{path.parent.name}-{path.stem}" for path in images.rglob("*.png")]
    (images / "patients.csv").write_text("path,patient\n" + "\n".join(rows) + "\n")
    shares = [part for name in ("train=0.4", "val=0.2", "test=0.4") for part in ("--set", f"split.{name}")]
    run = ("run", "classification", "--data", str(images), *SMALL, *shares)
    rejected = medloop.json(*run, "--param", "MinScore=0")
    assert rejected["approval"] == "Rejected"
    assert medloop("models", "approve", f"{NAME}/1", "--reason", "the first", "--as", "QM", "--yes") == 2
    assert "registration.intended_use, registration.population" in medloop.err
    run = (*run, *STATED)
    first = medloop.json(*run, "--param", "MinScore=0")
    assert (first["model"], first["approval"]) == (f"{NAME}/2", "PendingManualApproval")
    cached = {step["name"] for step in first["execution"]["steps"] if step["cached"]}
    assert cached == {"Split", "Train", "Evaluate"}
    champion = json.loads((Path(first["report"]).parent / "evaluation.json").read_text())
    assert (champion["gate"]["champion"], champion["comparisons"], champion["test_uses"]) == ("", [], 1)
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
    evaluation = json.loads((folder / "evaluation.json").read_text())
    (comparison,) = evaluation["comparisons"]
    assert (comparison["role"], comparison["model"]) == ("champion", first["model_arn"])
    assert comparison["score_model"] == pytest.approx(champion["score"]["value"])
    assert comparison["difference"] == pytest.approx(evaluation["score"]["value"] - champion["score"]["value"])
    assert comparison["num_patients"] == evaluation["gate"]["num_patients"] == champion["data"]["num_patients"]
    assert (evaluation["gate"]["sufficient"], evaluation["gate"]["margin_left"]) == (0, 0.0)
    assert evaluation["test_uses"] == 2
    assert first["model_arn"] in (folder / "report.html").read_text()
    registration = json.loads((folder / "registration.json").read_text())
    assert (registration["champion"], registration["test_uses"]) == (first["model_arn"], "2")
