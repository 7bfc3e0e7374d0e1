"""SageMaker's operations on jobs, the same for every kind."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from medloop.local.api.paging import page_of_records
from medloop.local.errors import invalid
from medloop.local.jobs.job import ENDED, TRAINING, Job, JobKind, create_job
from medloop.local.process_identity import Identity
from medloop.local.processes import start_detached
from medloop.local.state.backend import Backend
from medloop.local.state.store import Document, Transaction, pick
from medloop.local.state.tags import put_tags

Handler = Callable[[Backend, Document], Document]


def operations(
    kind: JobKind,
    *,
    handle: type[Job] = Job,
    create: Callable[[Transaction, JobKind, Document, Callable[[], Identity]], Document] = create_job,
    describe: Handler = lambda _, job: job,
    summary: Handler | None = None,
) -> dict[str, Handler]:
    """The Create, Describe, List and Stop operations of a kind of job, by name.

    Args:
        kind: The kind of job.
        handle: The class of its jobs.
        create: Records what a create request asks for.
        describe: A job's record as its description.
        summary: A job's record as a list shows it; None picks the fields that jobs share.
    """

    def start(backend: Backend, params: Document) -> Document:
        detached = partial(start_detached, backend.home, kind.arn(params[kind.name_field]), backend.runtime)
        with backend.store.write() as write:
            job = create(write, kind, params, detached)
            put_tags(write, job[f"{kind.name}Arn"], params.get("Tags") or [])
        return pick(job, f"{kind.name}Arn")

    def read(backend: Backend, params: Document) -> Document:
        job = handle(backend, kind, params[kind.name_field])
        return describe(backend, job.reap(job.read()))

    def stop(backend: Backend, params: Document) -> Document:
        return _stop(handle(backend, kind, params[kind.name_field]))

    def list_(backend: Backend, params: Document) -> Document:
        with backend.store.read() as transaction:
            known = transaction.select(kind.table)
        jobs = [handle.recorded(backend, kind, job).reap(job) for job in known]
        show = partial(summary, backend) if summary else partial(_summary, kind)
        member, name = f"{kind.name}Summaries", kind.name_field
        return page_of_records(jobs, params, member=member, name=name, status=kind.status, show=show)

    return {
        f"Create{kind.name}": start,
        f"Describe{kind.name}": read,
        f"Stop{kind.name}": stop,
        f"List{kind.name}s": list_,
    }


def _stop(job: Job) -> Document:
    """Ask a job's process to stop it; the process sees that within a fraction of a second."""
    status = job.reap(job.read())[job.kind.status]
    if status in ENDED:
        raise invalid(f"The request was rejected because the job is in status {status}.")
    secondary = {"SecondaryStatus": "Stopping"} if job.kind is TRAINING else {}
    job.change(**{job.kind.status: "Stopping"}, **secondary)
    return {}


def _summary(kind: JobKind, job: Document) -> Document:
    common = (kind.name_field, f"{kind.name}Arn", "CreationTime", f"{kind.type.time_prefix}EndTime", "LastModifiedTime")
    more = ("SecondaryStatus",) if kind is TRAINING else ("FailureReason", "ExitMessage")
    return pick(job, *common, kind.status, *more)
