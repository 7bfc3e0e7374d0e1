"""Executions and their steps as records; an execution whose engine is gone is ended by the next reader."""

from __future__ import annotations

from medloop.definition.step_types import type_in_metadata
from medloop.local import processes
from medloop.local.errors import not_found
from medloop.local.jobs.job import KINDS, TUNING, Job, JobKind
from medloop.local.state.backend import Backend
from medloop.local.state.home import now
from medloop.local.state.store import Document, Table, Transaction
from medloop.local.tuning.tuning_jobs import TuningJob

_HANDLES: dict[JobKind, type[Job]] = {**dict.fromkeys(KINDS, Job), TUNING: TuningJob}
_KINDS = {kind.type: kind for kind in _HANDLES}
RUNNING = frozenset({"Executing", "Stopping"})
STEP_RUNNING = frozenset({"Starting", "Executing", "Stopping"})
ENGINE_DIED = "engine died (the process that ran the execution is gone); resume it with `medloop executions retry`"


def read(transaction: Transaction, arn: str) -> Document:
    """An execution's record. Raises ServiceError ResourceNotFound."""
    return transaction.require(Table.EXECUTIONS, arn, not_found(f"Pipeline execution '{arn}' does not exist."))


def pipeline_of(arn: str) -> str:
    """The name of an execution's pipeline."""
    return arn.rpartition(":pipeline/")[2].partition("/")[0]


def change(write: Transaction, arn: str, **fields: object) -> Document:
    """Change an execution that hasn't ended."""
    document = read(write, arn)
    if document["PipelineExecutionStatus"] in RUNNING:
        document |= {**fields, "LastModifiedTime": now()}
        write.put(Table.EXECUTIONS, arn, document)
    return document


def change_step(write: Transaction, arn: str, name: str, **fields: object) -> Document:
    """Make a step's record, or change it while the step runs."""
    key = f"{arn}/{name}"
    document = write.get(Table.STEPS, key) or {"StepName": name, "StepStatus": "Starting"}
    if document["StepStatus"] in STEP_RUNNING:
        document |= fields
        write.put(Table.STEPS, key, document, parent=arn)
    return document


def begin_attempt(write: Transaction, arn: str, name: str) -> None:
    """Record that a running step's next attempt begins: the count goes up, and the last one's failure is gone."""
    key = f"{arn}/{name}"
    document = write.get(Table.STEPS, key)
    if document and document["StepStatus"] in STEP_RUNNING:
        document.pop("FailureReason", None)
        write.put(Table.STEPS, key, {**document, "AttemptCount": document["AttemptCount"] + 1})


def reap(backend: Backend, document: Document) -> Document:
    """Record the end of an execution whose engine is gone, and end its jobs; any other is returned as it is.

    Its jobs come first, so that a reader that dies half-way leaves the rest to the next one.
    """
    if document["PipelineExecutionStatus"] not in RUNNING or processes.alive(document["_engine"], backend.home):
        return document
    if not backend.is_writable:
        return document
    arn = document["PipelineExecutionArn"]
    for kind, handle in _HANDLES.items():
        with backend.store.read() as transaction:
            left = [job for job in transaction.select(kind.table) if job.get("_execution") == arn]
        for job in left:
            handle.recorded(backend, kind, job).reap(job)
    with backend.store.write() as write:
        if (current := read(write, arn))["_engine"] != document["_engine"]:
            return current  # retried since this was read: another engine has it
        for step in write.select(Table.STEPS, arn):
            if step["StepStatus"] in STEP_RUNNING:
                change_step(write, arn, step["StepName"], **_ending(write, step), EndTime=now())
        return change(write, arn, PipelineExecutionStatus="Failed", FailureReason=ENGINE_DIED)


def job_in_metadata(transaction: Transaction, metadata: Document) -> tuple[JobKind, Document] | None:
    """The job that a step's Metadata names: its kind, and its record (empty if it is gone). None if it names none."""
    for member, known in metadata.items():
        row = type_in_metadata(member)
        if row.job and (kind := _KINDS.get(row.job)):
            return kind, transaction.get(kind.table, known[row.arn_member].rpartition("/")[2]) or {}
    return None


def _ending(transaction: Transaction, step: Document) -> dict[str, str]:
    """The end of a step that a dead engine left running: that of its job, if the job had ended and alone decides."""
    kind_and_job = job_in_metadata(transaction, step.get("Metadata", {}))
    if kind_and_job and step.get("_job_decides") and kind_and_job[1].get(kind_and_job[0].status) == "Completed":
        return {"StepStatus": "Succeeded"}
    return {"StepStatus": "Failed", "FailureReason": ENGINE_DIED}
