"""Concurrent runs on one home: each has its own settings, and the records are consistent."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from medloop.samples.tissue import make_brain_tissue
from medloop.settings import split_name
from tests.endtoend.test_local_run import SMALL

pytestmark = [pytest.mark.slow, pytest.mark.soak]


@dataclass
class Run:
    """A run: its options in addition to pipeline and data, its process, and its document."""

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


def run_concurrently(medloop: Any, data: dict[str, Path], runs: list[Run]) -> None:
    """Start all runs, and wait until each has registered a version."""
    for run in runs:
        command = ("run", run.pipeline, "--data", str(data[run.pipeline]), *run.options)
        run.process = medloop.start(*command, "--json")
    outputs = [run.process.communicate(timeout=900) for run in runs if run.process is not None]
    for run, (out, err) in zip(runs, outputs, strict=True):
        assert run.process is not None
        assert run.process.returncode == 0, err
        run.outcome = json.loads(out)


def definition_of(medloop: Any, run: Run) -> dict[str, Any]:
    """The definition in the record of a run's execution."""
    from medloop.local.session import local_session

    client = local_session(medloop.home).client("sagemaker")
    (summary,) = [e for e in medloop.json("executions", "list") if e["id"] == run.id]
    response = client.describe_pipeline_definition_for_execution(PipelineExecutionArn=summary["arn"])
    return dict(json.loads(response["PipelineDefinition"]))


def seed_of(definition: dict[str, Any]) -> str:
    """The training seed in a definition."""
    (train,) = [step for step in definition["Steps"] if step["Name"] == "Train"]
    return str(train["Arguments"]["HyperParameters"]["seed"])


PROJECTS = {"classification": "bilder-fur-alle", "segmentation": "brain"}
"""The projects of the data sets' folders."""
FEW = ["7", "8"]
"""Two training seeds for one pipeline."""
MANY = [*FEW, "7"]
"""The same with one seed twice."""


@pytest.mark.parametrize(("seeds", "segmentations"), [(FEW, 0), (MANY, 1)], ids=["few", "many"])
def test_concurrent_runs_keep_their_settings(
    medloop: Any, images: Path, tmp_path: Path, seeds: list[str], segmentations: int
) -> None:
    """Runs of one pipeline and of another: none gets another's definition, version or record."""
    data = {"classification": images}
    runs = [
        Run("classification", (*SMALL, "--param", "MinScore=0", "--set", f"train.hyperparameters.seed={seed}"))
        for seed in seeds
    ]
    if segmentations:
        data["segmentation"] = make_brain_tissue(tmp_path / "brain", num_subjects=6)
        runs += [Run("segmentation", ("--set", "smoke=true"))] * segmentations
    medloop.home = tmp_path / "home"
    run_concurrently(medloop, data, runs)

    assert len({run.id for run in runs}) == len({run.model for run in runs}) == len(runs)
    assert [seed_of(definition_of(medloop, run)) for run in runs[: len(seeds)]] == seeds
    listed = {execution["id"]: execution for execution in medloop.json("executions", "list")}
    assert set(listed) == {run.id for run in runs}
    for run in runs:
        shown = medloop.json("executions", "show", run.id)
        installed, project = split_name(shown["pipeline"]) or ("", "")
        assert (installed, project) == (run.pipeline, PROJECTS[run.pipeline])
        assert (shown["status"], listed[run.id]["status"]) == ("Succeeded", "Succeeded")
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
