"""Steps that run a job of their own to its end: Processing, Training and Transform."""

from __future__ import annotations

import threading
from typing import ClassVar

from medloop.definition.step_types import type_of
from medloop.local.engine.results import property_files
from medloop.local.engine.step_runs.base import StepResult, StepRun, StepRunner
from medloop.local.hosting.transform import run_transform
from medloop.local.jobs.job import PROCESSING, TRAINING, TRANSFORM, Job, JobKind, create_own_job
from medloop.local.jobs.running import run_job
from medloop.local.state.home import new_id
from medloop.local.state.store import Document

_MAX_JOB_NAME = 63


class JobRunner(StepRunner):
    """Runs a job of one kind; its last record has the step's properties."""

    kind: ClassVar[JobKind]
    work: ClassVar[staticmethod[[Job, threading.Event], Document]] = staticmethod(run_job)
    """Runs the job to its end; returns its record."""

    def run(self, run: StepRun) -> StepResult:
        """See StepRunner."""
        base = str(run.step.arguments.get(self.kind.name_field) or "pipelines")
        name = job_name(base, run.execution.rpartition("/")[2], run.step.name)
        job, row = Job(run.backend, self.kind, name), type_of(run.step)
        metadata = {row.metadata_member: {row.arn_member: job.arn}}
        self._create(run, name, metadata)
        if run.note:
            job.log.write(run.note)
        return self.result(run, self.work(job, run.stop), metadata)

    def result(self, run: StepRun, ended: Document, metadata: Document) -> StepResult:
        """The step's result from its job's last record."""
        status = ended[self.kind.status]
        if status == "Completed":
            files = property_files(run.step.document.get("PropertyFiles") or [], ended)
            return StepResult("Succeeded", ended, metadata, property_files=files)
        if status == "Stopped" and run.stop.is_set():
            return StepResult("Stopped", ended, metadata)
        name, last = ended[self.kind.name_field], ended.get("SecondaryStatus", "Stopped")
        reason = ended.get("FailureReason") or f"ClientError: {name} was stopped ({last})"
        return StepResult("Failed", ended, metadata, reason)

    def _create(self, run: StepRun, name: str, metadata: Document) -> None:
        """Record the job, under a name that the service makes up, and the step's reference to it."""
        request = run.request(**{self.kind.name_field: name})
        with run.backend.store.write() as write:
            create_own_job(write, self.kind, request, _execution=run.execution)
            # A runner that judges what a completed job made decides by itself: without it, its step hasn't succeeded.
            decides = type(self).result is JobRunner.result
            run.refer(write, Metadata=metadata, _job_decides=decides)


class Processing(JobRunner):
    """Runs a processing job."""

    kind = PROCESSING


class Training(JobRunner):
    """Runs a training job."""

    kind = TRAINING


class Transform(JobRunner):
    """Runs a batch transform job."""

    kind = TRANSFORM
    work = staticmethod(run_transform)


def job_name(base: str, execution_id: str, step: str) -> str:
    """A job's name as the service forms it: unique, and the step's name recognisable in it."""
    ending = f"-{new_id(10)}"
    begin = f"{base[:20]}-{execution_id}-{step.replace('_', '-')}"
    return begin[: _MAX_JOB_NAME - len(ending)].rstrip("-") + ending
