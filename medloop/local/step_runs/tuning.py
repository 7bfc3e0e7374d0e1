"""Tuning steps: a tuning job of their own, run to its end."""

from __future__ import annotations

import os

from medloop.local import processes
from medloop.local.errors import ServiceError
from medloop.local.expressions import resolve
from medloop.local.home import new_id
from medloop.local.requests import check_request
from medloop.local.step_runs.base import StepResult, StepRun, refused
from medloop.local.store import Document, Table
from medloop.local.tuning import records
from medloop.local.tuning.records import NAME, STATUS
from medloop.local.tuning.running import run_tuning

_OPERATION = "CreateHyperParameterTuningJob"
_MAX_SUMMARIES = 50
"""So many of the best trials are the step's properties."""


def tuning(run: StepRun) -> StepResult:
    """A Tuning step."""
    name = _name(run)
    request = resolve({**run.step.arguments, NAME: name}, run.scope)
    try:
        check_request(_OPERATION, request)
        with run.backend.store.write() as write:
            document = records.create(write, request, lambda: processes.identity(os.getpid()))
            write.put(Table.TUNING_JOBS, name, {**document, "_execution": run.execution})
    except ServiceError as error:
        return StepResult("Failed", reason=refused(_OPERATION, error))
    metadata = {"TuningJob": {"Arn": records.tuning_arn(name)}}
    run.show(Metadata=metadata)
    ended = run_tuning(run.backend, name, run.stop)
    if ended[STATUS] == "Completed":
        return StepResult("Succeeded", properties(run, ended), metadata)
    if ended[STATUS] == "Stopped" and run.stop.is_set():
        return StepResult("Stopped", metadata=metadata)
    reason = ended.get("FailureReason") or f"ClientError: {name} was stopped"
    return StepResult("Failed", metadata=metadata, reason=reason)


def properties(run: StepRun, document: Document) -> Document:
    """What later steps may refer to: the Describe answer, and the best trials' summaries, the best first.

    https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-properties.html (Tuning step)
    """
    summaries = [records.summary(document, job) for job in records.trials(run.backend, document[NAME])]
    ordered: list[Document] = []
    while len(ordered) < _MAX_SUMMARIES and (winner := records.best(document, summaries)) is not None:
        ordered.append(winner)
        summaries.remove(winner)
    return {**records.describe(run.backend, document), "TrainingJobSummaries": ordered}


def _name(run: StepRun) -> str:
    """A name as the service forms it: unique, at most 32 characters, the step's name recognisable in it."""
    ending = f"-{new_id(8)}"
    begin = f"{run.execution.rpartition('/')[2][:12]}-{run.step.name.replace('_', '-')}"
    return begin[: records.MAX_NAME - len(ending)].rstrip("-") + ending
