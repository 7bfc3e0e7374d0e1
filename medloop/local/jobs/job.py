"""A job (processing, training, transform, tuning): its record, and where its folder, its outputs and its log are.

A record is created with the process that will run the job, changed by that process alone, and ended by the first reader
that finds the process gone. `jobs.running` runs one, `tuning.running` a tuning job.
"""

from __future__ import annotations

import re
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medloop.definition.step_types import PROCESSING_JOB, TRAINING_JOB, TRANSFORM_JOB, TUNING_JOB, JobType
from medloop.documents.json_text import MAX_BYTES, read_json
from medloop.local import processes
from medloop.local.errors import INTERNAL, check_name, in_use, invalid, not_found
from medloop.local.jobs.folders import Folder
from medloop.local.process_identity import Identity
from medloop.local.state.backend import Backend
from medloop.local.state.home import arn, new_id, now
from medloop.local.state.log_streams import LogStream
from medloop.local.state.models import MODEL
from medloop.local.state.store import Document, Table, Transaction

ENDED = frozenset({"Completed", "Failed", "Stopped"})
STORED = "stored.json"
"""In a job's folder: `[bucket, key, stamp]` of each output, written before the first of them is stored."""
ENGINE_DIED = f"{INTERNAL}: engine died (the process that ran the job is gone); start it again"


@dataclass(frozen=True)
class JobKind:
    """One kind of job: the service's names for it, and the table of its records."""

    type: JobType
    table: Table

    @property
    def name(self) -> str:
        """`TrainingJob`, `ProcessingJob`, ..., with which its fields begin."""
        return self.type.resource or self.type.name

    def arn(self, name: str) -> str:
        """The ARN of the job of that name."""
        return arn(f"{re.sub(r'(?<!^)(?=[A-Z])', '-', self.name).lower()}/{name}")

    @property
    def name_field(self) -> str:
        """The field of a job's name."""
        return f"{self.name}Name"

    @property
    def status(self) -> str:
        """The field of a job's status."""
        return f"{self.name}Status"


TRAINING = JobKind(TRAINING_JOB, Table.TRAINING_JOBS)
PROCESSING = JobKind(PROCESSING_JOB, Table.PROCESSING_JOBS)
TRANSFORM = JobKind(TRANSFORM_JOB, Table.TRANSFORM_JOBS)
TUNING = JobKind(TUNING_JOB, Table.TUNING_JOBS)
KINDS = (TRAINING, PROCESSING, TRANSFORM)
"""Jobs with a process of their own; a tuning job has those of its trials."""


@dataclass(frozen=True)
class Job:
    """One job of a home, which needn't be recorded yet."""

    backend: Backend
    kind: JobKind
    name: str

    @classmethod
    def recorded(cls, backend: Backend, kind: JobKind, document: Document) -> Job:
        """The job of a record."""
        return cls(backend, kind, document[kind.name_field])

    @property
    def arn(self) -> str:
        """Its ARN."""
        return self.kind.arn(self.name)

    @property
    def folder(self) -> Folder:
        """The folder in which it is staged while it runs."""
        return Folder(self.backend.home.job(self.name))

    @property
    def log(self) -> LogStream:
        """Its log, the log's folder made."""
        return LogStream.in_group(self.backend.home, self.kind.type.log_group, self.name, "algo-1")

    def read(self) -> Document:
        """Its record. Raises ServiceError when there is none."""
        with self.backend.store.read() as transaction:
            return read_job(transaction, self.kind, self.name)

    def change(self, **fields: Any) -> Document:
        """Change its record, unless it has ended already (because its engine had died)."""
        with self.backend.store.write() as write:
            return _change(write, self.kind, self.name, fields)

    def begin(self) -> Document:
        """Record that this process begins it, unless that was recorded with the job itself; returns its record."""
        document = self.read()
        if "_temporary" in document:
            return document
        with self.backend.store.write() as write:
            return _begin(write, self.kind, self.name)

    def end(self, status: str, **fields: Any) -> Document:
        """Record that it ended.

        Args:
            status: Completed, Failed or Stopped.
            fields: What else is known: FailureReason, ModelArtifacts, ...
        """
        fields |= {self.kind.status: status, f"{self.kind.name.removesuffix('Job')}EndTime": now()}
        with self.backend.store.write() as write:
            if self.kind is TRAINING:
                fields.setdefault("SecondaryStatus", status)
                fields |= _times(read_job(write, self.kind, self.name), fields["TrainingEndTime"])
            return _change(write, self.kind, self.name, fields)

    def reap(self, document: Document) -> Document:
        """End it when its supervisor is gone: kill its processes, clear what it left, then record it as Failed.

        The record comes last, so that a reader that dies half-way leaves the rest to the next one. A job that had ended
        but whose folder is still there is cleared as well.
        """
        if document[self.kind.status] in ENDED and not self.folder.root.exists():
            return document
        if processes.alive(document["_supervisor"], self.backend.home) or not self.backend.is_writable:
            return document
        document = self.read()  # the supervisor may have changed it before it died
        processes.signal_group(document.get("_process"), signal.SIGKILL)
        if document[self.kind.status] not in ENDED:
            self.withdraw_outputs()
        self.clear(document)
        return self.end("Failed", FailureReason=ENGINE_DIED)

    def clear(self, document: Document) -> None:
        """Kill what it left running and delete its folders; the one by which it is known comes last."""
        self.folder.clear(document.get("_temporary", ""))

    def withdraw_outputs(self) -> None:
        """Take back the outputs that it has stored already, as it fails now."""
        with suppress(OSError, ValueError):  # not written, or not to its end: nothing was stored
            for bucket, key, fingerprint in read_json(self.folder.root / STORED, MAX_BYTES):
                self.backend.objects.withdraw(bucket, key, fingerprint)


def create_job(write: Transaction, kind: JobKind, request: Document, start: Callable[[], Identity]) -> Document:
    """Record a new job.

    Args:
        write: The transaction.
        kind: The kind of job.
        request: The Create request, checked against the service's model.
        start: Names the process that will run it; called once the request is valid.

    Raises:
        ServiceError: ResourceInUse when the name is taken; ValidationException for a bad metric definition.
    """
    name = request[kind.name_field]
    check_name(kind.name_field, name, 63)
    if write.get(kind.table, name):
        raise in_use(f"{kind.name} with name {name} already exists; job names must be unique")
    for metric in request.get("AlgorithmSpecification", {}).get("MetricDefinitions") or []:
        try:
            re.compile(metric["Regex"])
        except re.error as error:
            raise invalid(f"The regular expression of the metric {metric['Name']} is malformed: {error}") from error
    time = now()
    document = {key: value for key, value in request.items() if key not in ("Tags", "SessionChainingConfig")}
    if kind is TRANSFORM:
        document["_container"] = MODEL.read(write, request["ModelName"])["_container"]
    document |= {f"{kind.name}Arn": kind.arn(name), kind.status: "InProgress", "CreationTime": time}
    document |= {"LastModifiedTime": time, "_supervisor": start()}
    if kind is TRAINING:
        document |= {"SecondaryStatus": "Starting", "SecondaryStatusTransitions": [_transition("Starting", time)]}
    write.put(kind.table, name, document)
    return document


def create_own_job(write: Transaction, kind: JobKind, request: Document, **fields: Any) -> Document:
    """Record a new job that this process begins at once, with these fields in addition; see `create_job`."""
    document = create_job(write, kind, request, processes.own_identity)
    return _begin(write, kind, document[kind.name_field], **fields)


def _begin(write: Transaction, kind: JobKind, name: str, **fields: Any) -> Document:
    """Record that a job begins, with its temporary folder: a reader that finds this process dead can delete it."""
    fields["_temporary"] = str(Path(tempfile.gettempdir(), f"medloop-{new_id()}"))
    if kind is TRAINING:
        fields["SecondaryStatus"] = "Downloading"
    if kind is TRANSFORM:
        fields["TransformStartTime"] = now()
    return _change(write, kind, name, fields)


def _change(write: Transaction, kind: JobKind, name: str, fields: Document) -> Document:
    document = read_job(write, kind, name)
    if document[kind.status] in ENDED:
        return document
    document |= {**fields, "LastModifiedTime": now()}
    if "SecondaryStatus" in fields:
        _add_transition(document)
    write.put(kind.table, name, document)
    return document


def _times(job: Document, ended: float) -> Document:
    """The times that Describe shows of a training job; locally nothing is billed, and no warm pool is kept."""
    times: Document = {}
    if "TrainingStartTime" in job:
        seconds = max(1, round(ended - job["TrainingStartTime"]))
        times = {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}
    if job.get("ResourceConfig", {}).get("KeepAlivePeriodInSeconds"):
        times["WarmPoolStatus"] = {"Status": "Terminated", "ResourceRetainedBillableTimeInSeconds": 0}
    return times


def read_job(transaction: Transaction, kind: JobKind, name: str) -> Document:
    """A job's record. Raises ServiceError when there is none."""
    absent = not_found(f"Could not find requested job with name: {name}")
    if kind is TRAINING:
        absent = invalid(f"Requested resource not found: training job {name}")
    if kind is TUNING:
        absent = not_found(f"Amazon SageMaker can't find a tuning job with name {name}")
    return transaction.require(kind.table, name, absent)


def num_running(backend: Backend) -> int:
    """The number of jobs that run under this home: of those whose folder is there, however many were recorded."""
    names = [folder.name for folder in backend.home.folder("jobs").iterdir()]
    with backend.store.read() as transaction:
        jobs = [(kind, job) for kind in KINDS for job in transaction.get_many(kind.table, names).values()]
    return sum(
        job[kind.status] not in ENDED and processes.alive(job["_supervisor"], backend.home) for kind, job in jobs
    )


def _transition(status: str, time: float) -> Document:
    return {"Status": status, "StartTime": time, "StatusMessage": _MESSAGES.get(status, status)}


def _add_transition(document: Document) -> None:
    transitions, status = document["SecondaryStatusTransitions"], document["SecondaryStatus"]
    transitions[-1]["EndTime"] = document["LastModifiedTime"]
    transitions.append(_transition(status, document["LastModifiedTime"]))
    if status in ENDED or status == "MaxRuntimeExceeded":
        transitions[-1]["EndTime"] = document["LastModifiedTime"]


_MESSAGES = {
    "Starting": "Preparing the job's folders",
    "Downloading": "Linking input data",
    "Training": "Training in progress",
    "Uploading": "Packing and storing the model",
    "Stopping": "Stopping the training job",
    "Completed": "Training job completed",
    "MaxRuntimeExceeded": "The training job ran longer than MaxRuntimeInSeconds",
}
