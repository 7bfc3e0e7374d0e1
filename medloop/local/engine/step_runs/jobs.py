"""Processing, Training and Transform steps: a job of their own, run to its end."""

from __future__ import annotations

import os
from dataclasses import replace

from medloop.local import processes
from medloop.local.engine.expressions import resolve
from medloop.local.engine.results import property_files
from medloop.local.engine.step_runs.base import StepResult, StepRun, refused
from medloop.local.errors import ServiceError
from medloop.local.hosting.transform import run_transform
from medloop.local.jobs import jobs
from medloop.local.jobs.jobs import PROCESSING, TRAINING, TRANSFORM, JobKind
from medloop.local.jobs.runner import JobLog, run_job
from medloop.local.requests import check_request
from medloop.local.state.home import new_id

_MAX_JOB_NAME = 63


def processing(run: StepRun) -> StepResult:
    """A Processing step."""
    return _job(run, PROCESSING)


def training(run: StepRun) -> StepResult:
    """A Training step."""
    return _job(run, TRAINING)


def transform(run: StepRun) -> StepResult:
    """A Transform step."""
    return _job(run, TRANSFORM)


def _job(run: StepRun, kind: JobKind) -> StepResult:
    name_field = f"{kind.name}Name"
    execution_id = run.execution.rpartition("/")[2]
    name = job_name(str(run.step.arguments.get(name_field) or "pipelines"), execution_id, run.step.name)
    scope = replace(run.scope, execution={**run.scope.execution, name_field: name})
    request = resolve({**run.step.arguments, name_field: name}, scope)
    try:
        check_request(f"Create{kind.name}", request)
        with run.backend.store.write() as write:
            job = jobs.create(write, kind, request, lambda: processes.identity(os.getpid()))
            write.put(kind.table, name, {**job, "_execution": run.execution})
    except ServiceError as error:
        return StepResult("Failed", reason=refused(f"Create{kind.name}", error))
    metadata = {kind.name: {"Arn": kind.arn(name)}}
    run.show(Metadata=metadata)
    if run.note:
        JobLog.of(run.backend, kind, job).say(run.note)
    backend, stop = run.backend, run.stop
    ended = run_transform(backend, name, stop) if kind is TRANSFORM else run_job(backend, kind, name, stop)
    files = property_files(run.step.document.get("PropertyFiles") or [], ended)
    if ended[kind.status] == "Completed":
        return StepResult("Succeeded", ended, metadata, property_files=files)
    if ended[kind.status] == "Stopped" and run.stop.is_set():
        return StepResult("Stopped", ended, metadata)
    stopped = f"ClientError: {name} was stopped ({ended.get('SecondaryStatus', 'Stopped')})"
    reason = ended.get("FailureReason") or stopped
    return StepResult("Failed", ended, metadata, reason)


def job_name(base: str, execution_id: str, step: str) -> str:
    """A job's name as the service forms it: unique, and the step's name recognisable in it."""
    ending = f"-{new_id(10)}"
    begin = f"{base[:20]}-{execution_id}-{step.replace('_', '-')}"
    return begin[: _MAX_JOB_NAME - len(ending)].rstrip("-") + ending
