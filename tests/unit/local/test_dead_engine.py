"""What the next reader makes of the records of an engine that died; no process is started."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medloop.definition import step_types
from medloop.definition.read import Step
from medloop.definition.step_types import PROCESSING_JOB, STEP_TYPES, StepType
from medloop.local.engine import executions
from medloop.local.engine.expressions import Scope
from medloop.local.engine.results import recorded
from medloop.local.engine.step_runs.base import StepResult, StepRun
from medloop.local.engine.step_runs.jobs import Processing
from medloop.local.jobs.job import PROCESSING, TRAINING, TUNING, JobKind
from medloop.local.state.backend import Backend
from medloop.local.state.store import Document, Table
from tests.unit.local.steps import processing

ARN = "arn:aws:sagemaker:us-east-1:000000000000:pipeline/p/execution/e"
DEAD = {"pid": 2**22 + 1, "started": 0.0}
QUALITY = StepType(name="QualityCheck", job=PROCESSING_JOB, metadata="QualityCheck", arn_member="CheckJobArn")


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """An empty home, and QualityCheck among the step types, as docs/extending.md adds it."""
    known = {row.metadata_member: row for row in (*STEP_TYPES.values(), QUALITY)}
    monkeypatch.setattr(step_types, "_BY_METADATA", known)
    return Backend.open(tmp_path / "home")


def put_execution(backend: Backend, **step: Any) -> Document:
    """Record an execution of one step, Check, that a dead engine left running."""
    definition = json.dumps({"Version": "2020-12-01", "Steps": [{"Name": "Check", "Type": "Processing"}]})
    execution = {"PipelineExecutionArn": ARN, "PipelineExecutionStatus": "Executing", "_engine": DEAD}
    execution["_definition"] = definition
    with backend.store.write() as write:
        write.put(Table.PIPELINES, "p", {})
        write.put(Table.EXECUTIONS, ARN, execution, parent="p")
        executions.change_step(write, ARN, "Check", StepStatus="Executing", **step)
    return execution


def put_job(backend: Backend, kind: JobKind, name: str, status: str, **fields: Any) -> None:
    """Record a job of the dead engine."""
    job = {kind.name_field: name, kind.status: status, "_supervisor": DEAD, "_execution": ARN, "CreationTime": 0.0}
    job |= {"SecondaryStatus": "Training", "SecondaryStatusTransitions": [{"Status": "Training", "StartTime": 0.0}]}
    with backend.store.write() as write:
        write.put(kind.table, name, {**job, **fields})


def reaped(backend: Backend, execution: Document) -> Document:
    """The step's record once the execution was ended."""
    assert executions.reap(backend, execution)["PipelineExecutionStatus"] == "Failed"
    with backend.store.read() as read:
        return read.get(Table.STEPS, f"{ARN}/Check") or {}


METADATA = {
    "ProcessingJob": {"ProcessingJob": {"Arn": PROCESSING.arn("job")}},
    "QualityCheck": {"QualityCheck": {"CheckJobArn": PROCESSING.arn("job")}},
}


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA)
def test_a_completed_job_is_taken_over(backend: Backend, metadata: Document) -> None:
    """Its step has succeeded, with the job's record as its result, under the names that its type gives its metadata."""
    put_job(backend, PROCESSING, "job", "Completed", ExitMessage="done")
    execution = put_execution(backend, Metadata=metadata, _job_decides=True)
    step = reaped(backend, execution)
    assert step["StepStatus"] == "Succeeded"
    with backend.store.read() as read:
        assert recorded(read, execution, step).properties["ExitMessage"] == "done"


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA)
def test_a_job_that_its_runner_judges_is_not_taken_over(backend: Backend, metadata: Document) -> None:
    """A check with violations that were never read hasn't passed: the step fails, and a retry runs it again."""
    put_job(backend, PROCESSING, "job", "Completed")
    step = reaped(backend, put_execution(backend, Metadata=metadata, _job_decides=False))
    assert (step["StepStatus"], step["FailureReason"]) == ("Failed", executions.ENGINE_DIED)


class Judge(Processing):
    """A runner that reads what its job made, as QualityCheck's does."""

    def result(self, run: StepRun, ended: Document, metadata: Document) -> StepResult:
        """See JobRunner."""
        return super().result(run, ended, metadata)


@pytest.mark.parametrize(("runner", "status"), [(Processing, "Succeeded"), (Judge, "Failed")])
def test_a_runner_records_whether_its_job_alone_decides(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, runner: type[Processing], status: str
) -> None:
    """It records that before its job runs: here the engine dies once the job has completed."""
    execution = put_execution(backend)
    step = Step("Check", "Processing", processing("Check", "image")["Arguments"], {}, frozenset())
    monkeypatch.setattr(runner, "work", staticmethod(lambda job, _: job.end("Completed")))
    runner().run(StepRun(backend, ARN, step, Scope({}, {}, lambda uri: b""), threading.Event()))
    assert reaped(backend, execution)["StepStatus"] == status


def test_the_trials_of_a_tuning_job_end_before_it(backend: Backend) -> None:
    """Even one that doesn't name the execution: the tuning job ends its own."""
    put_job(backend, TUNING, "tune", "InProgress")
    put_job(backend, TRAINING, "trial", "InProgress", TuningJobArn=TUNING.arn("tune"), _execution="")
    reaped(backend, put_execution(backend, Metadata={"TuningJob": {"Arn": TUNING.arn("tune")}}, _job_decides=True))
    with backend.store.read() as read:
        trial, tuning = read.get(TRAINING.table, "trial") or {}, read.get(TUNING.table, "tune") or {}
    assert (trial[TRAINING.status], tuning[TUNING.status]) == ("Failed", "Failed")
    assert trial["TrainingEndTime"] <= tuning["HyperParameterTuningEndTime"]


def test_a_registration_and_a_condition_are_known_by_their_types_names(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results of steps without a job are found under the names that the table gives their metadata."""
    rows = (
        replace(STEP_TYPES["RegisterModel"], metadata="Package", arn_member="PackageArn"),
        replace(STEP_TYPES["Condition"], metadata="Branch"),
    )
    monkeypatch.setattr(step_types, "_BY_METADATA", {row.metadata_member: row for row in rows})
    with backend.store.read() as read:
        package = recorded(read, {}, {"Metadata": {"Package": {"PackageArn": "arn"}}})
        branch = recorded(read, {}, {"Metadata": {"Branch": {"Outcome": "True"}}})
        nothing = recorded(read, {}, {"Metadata": {"Other": {"Arn": "arn"}}})
    assert package.properties == {"ModelPackageArn": "arn"}
    assert (branch.properties, nothing.properties) == ({"Outcome": "True"}, {})
