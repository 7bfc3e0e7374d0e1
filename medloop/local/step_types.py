"""How each step type runs. `STEP_TYPES` is the whole list: another type is a function and its line there."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from medloop.definition.read import OUTCOMES, Step
from medloop.local import executions, jobs, packages, processes
from medloop.local.backend import Backend
from medloop.local.errors import ServiceError
from medloop.local.expressions import ExpressionError, Scope, holds, resolve
from medloop.local.home import new_id, now
from medloop.local.jobs import MAX_REASON, PROCESSING, TRAINING, JobKind
from medloop.local.requests import check_request
from medloop.local.runner import run_job
from medloop.local.store import Document, Table

_MAX_JOB_NAME = 63


@dataclass(frozen=True)
class StepRun:
    """What a running step works with.

    Args:
        backend: The backend.
        execution: ARN of the execution.
        step: The step.
        scope: What its expressions may refer to.
        stop: Set when the execution is stopped.
    """

    backend: Backend
    execution: str
    step: Step
    scope: Scope
    stop: threading.Event

    def show(self, **fields: Any) -> None:
        """Change the step's record while it runs."""
        with self.backend.store.write() as write:
            executions.change_step(write, self.execution, self.step.name, **fields)


@dataclass(frozen=True)
class StepResult:
    """How a step ended: its StepStatus, what later steps may refer to, and what its record shows."""

    status: str
    properties: Document = field(default_factory=dict)
    metadata: Document = field(default_factory=dict)
    reason: str = ""
    property_files: dict[str, str] = field(default_factory=dict)


def run_step(run: StepRun) -> StepResult:
    """Run a step to its end; whatever goes wrong fails it, with the reason."""
    try:
        return STEP_TYPES[run.step.type](run)
    except ExpressionError as error:
        return StepResult("Failed", reason=f"ClientError: {error}")
    except Exception as error:
        traceback.print_exc()
        return StepResult("Failed", reason=f"InternalServerError: {type(error).__name__}: {error}"[:MAX_REASON])


def _processing(run: StepRun) -> StepResult:
    return _job(run, PROCESSING)


def _training(run: StepRun) -> StepResult:
    return _job(run, TRAINING)


def _job(run: StepRun, kind: JobKind) -> StepResult:
    name_field = f"{kind.name}Name"
    execution_id = run.execution.rpartition("/")[2]
    name = _job_name(str(run.step.arguments.get(name_field) or "pipelines"), execution_id, run.step.name)
    scope = replace(run.scope, execution={**run.scope.execution, name_field: name})
    request = resolve({**run.step.arguments, name_field: name}, scope)
    try:
        check_request(f"Create{kind.name}", request)
        with run.backend.store.write() as write:
            job = jobs.create(write, kind, request, lambda: processes.identity(os.getpid()))
            write.put(kind.table, name, {**job, "_execution": run.execution})
    except ServiceError as error:
        return StepResult("Failed", reason=_refused(f"Create{kind.name}", error))
    metadata = {kind.name: {"Arn": kind.arn(name)}}
    run.show(Metadata=metadata)
    ended = run_job(run.backend, kind, name, run.stop)
    files = _property_files(run.step.document.get("PropertyFiles") or [], ended)
    if ended[kind.status] == "Completed":
        return StepResult("Succeeded", ended, metadata, property_files=files)
    if ended[kind.status] == "Stopped" and run.stop.is_set():
        return StepResult("Stopped", ended, metadata)
    stopped = f"ClientError: {name} was stopped ({ended.get('SecondaryStatus', 'Stopped')})"
    reason = ended.get("FailureReason") or stopped
    return StepResult("Failed", ended, metadata, reason)


def _job_name(base: str, execution_id: str, step: str) -> str:
    """A job's name as the service forms it: unique, and the step's name recognisable in it."""
    ending = f"-{new_id(10)}"
    begin = f"{base[:20]}-{execution_id}-{step.replace('_', '-')}"
    return begin[: _MAX_JOB_NAME - len(ending)].rstrip("-") + ending


def _property_files(declared: list[Document], job: Document) -> dict[str, str]:
    outputs = job.get("ProcessingOutputConfig", {}).get("Outputs") or []
    places = {output["OutputName"]: output["S3Output"]["S3Uri"].rstrip("/") for output in outputs}
    return {
        file["PropertyFileName"]: f"{places[file['OutputName']]}/{file['FilePath']}"
        for file in declared
        if file["OutputName"] in places
    }


def _condition(run: StepRun) -> StepResult:
    conditions = run.step.arguments.get("Conditions") or []
    outcome = OUTCOMES["yes" if all(holds(condition, run.scope) for condition in conditions) else "no"]
    return StepResult("Succeeded", {"Outcome": outcome}, {"Condition": {"Outcome": outcome}})


def _register(run: StepRun) -> StepResult:
    request = resolve(run.step.arguments, run.scope)
    try:
        check_request("CreateModelPackage", request)
        with run.backend.store.write() as write:
            group = packages.group_name(request.get("ModelPackageGroupName", ""))
            if group and write.get(Table.GROUPS, group) is None:  # a pipeline makes its group by itself
                packages.create_group(write, {"ModelPackageGroupName": group})
            package = packages.create_package(write, request)
            metadata = {"RegisterModel": {"Arn": package["ModelPackageArn"]}}
            # One transaction: an engine that dies next leaves no package whose step says that it failed.
            ending = {"StepStatus": "Succeeded", "EndTime": now(), "Metadata": metadata}
            executions.change_step(write, run.execution, run.step.name, **ending)
    except ServiceError as error:
        return StepResult("Failed", reason=_refused("CreateModelPackage", error))
    return StepResult("Succeeded", package, metadata)


def _fail(run: StepRun) -> StepResult:
    message = str(resolve(run.step.arguments.get("ErrorMessage", ""), run.scope))
    return StepResult("Failed", {"ErrorMessage": message}, {"Fail": {"ErrorMessage": message}}, message)


def _refused(operation: str, error: ServiceError) -> str:
    return f"ClientError: Failed to invoke sagemaker:{operation}. Error Details: {error.message}"


STEP_TYPES: dict[str, Callable[[StepRun], StepResult]] = {
    "Processing": _processing,
    "Training": _training,
    "Condition": _condition,
    "RegisterModel": _register,
    "Fail": _fail,
}
