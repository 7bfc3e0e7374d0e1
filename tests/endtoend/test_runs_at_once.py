"""Runs at once on one home, from the command line: each has what it asked for, and the records fit together."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from medloop.samples.tissue import make_brain_tissue
from tests.endtoend.test_local_run import SMALL

pytestmark = [pytest.mark.slow, pytest.mark.soak]


@dataclass
class Run:
    """A run to be: its options beyond pipeline and data, and what it printed."""

    pipeline: str
    options: tuple[str, ...]
    process: subprocess.Popen[str] | None = None
    outcome: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        """The execution's id."""
        assert self.outcome is not None
        return str(self.outcome["execution"]["id"])

    @property
    def model(self) -> str:
        """`GROUP/N`."""
        assert self.outcome is not None
        return str(self.outcome["model"])


def run_at_once(medloop: Any, data: dict[str, Path], runs: list[Run]) -> None:
    """Start all runs at once and follow them to their ends, which must be registered versions."""
    for run in runs:
        command = ("run", run.pipeline, "--data", str(data[run.pipeline]), *run.options)
        run.process = medloop.start(*command, "--json")
    said = [run.process.communicate(timeout=900) for run in runs if run.process is not None]
    for run, (out, err) in zip(runs, said, strict=True):
        assert run.process is not None
        assert run.process.returncode == 0, err
        run.outcome = json.loads(out)


def definition_of(medloop: Any, run: Run) -> dict[str, Any]:
    """The definition that a run's execution was made of, as its record keeps it."""
    from medloop.local.session import local_session

    client = local_session(medloop.home).client("sagemaker")
    (summary,) = [e for e in medloop.json("executions", "list") if e["id"] == run.id]
    answer = client.describe_pipeline_definition_for_execution(PipelineExecutionArn=summary["arn"])
    return dict(json.loads(answer["PipelineDefinition"]))


def seed_of(definition: dict[str, Any]) -> str:
    """The seed of training that a definition holds."""
    (train,) = [step for step in definition["Steps"] if step["Name"] == "Train"]
    return str(train["Arguments"]["HyperParameters"]["seed"])


FEW = ["7", "8"]
"""Two settings of one pipeline: the seeds of training."""
MANY = [*FEW, "7"]
"""One of them twice."""


@pytest.mark.parametrize(("seeds", "segmentations"), [(FEW, 0), (MANY, 1)], ids=["few", "many"])
def test_runs_at_once_have_what_each_asked_for(
    medloop: Any, images: Path, tmp_path: Path, seeds: list[str], segmentations: int
) -> None:
    """Runs of one pipeline, and of another: none takes another's definition, version or place in a record."""
    data = {"classification": images}
    runs = [
        Run("classification", (*SMALL, "--param", "MinScore=0", "--set", f"train.hyperparameters.seed={seed}"))
        for seed in seeds
    ]
    if segmentations:
        data["segmentation"] = make_brain_tissue(tmp_path / "brain", num_subjects=6)
        runs += [Run("segmentation", ("--set", "smoke=true"))] * segmentations
    medloop.home = tmp_path / "home"
    run_at_once(medloop, data, runs)

    assert len({run.id for run in runs}) == len({run.model for run in runs}) == len(runs)
    assert [seed_of(definition_of(medloop, run)) for run in runs[: len(seeds)]] == seeds
    listed = {execution["id"]: execution for execution in medloop.json("executions", "list")}
    assert set(listed) == {run.id for run in runs}
    for run in runs:
        shown = medloop.json("executions", "show", run.id)
        assert (shown["pipeline"], shown["status"], listed[run.id]["status"]) == (run.pipeline, *["Succeeded"] * 2)
        assert set(Counter(step["name"] for step in shown["steps"]).values()) == {1}
        assert {step["status"] for step in shown["steps"]} == {"Succeeded"}
        version = medloop.json("models", "show", run.model)
        assert version["metadata"]["execution"].endswith(run.id)
        assert (medloop.home / "s3" / version["artefact"].removeprefix("s3://")).is_file()
    versions = medloop.json("models", "list")
    assert Counter(row["model"] for row in versions) == Counter(run.model for run in runs)
    uses = [json.loads(evaluation_of(run).read_text())["test_uses"] for run in runs]
    assert sorted(uses[: len(seeds)]) == list(range(1, len(seeds) + 1))
    assert uses[len(seeds) :] == [1] * segmentations
    assert list((medloop.home / "jobs").iterdir()) == []


def evaluation_of(run: Run) -> Path:
    """A run's evaluation.json."""
    assert run.outcome is not None
    return Path(run.outcome["report"]).parent / "evaluation.json"
