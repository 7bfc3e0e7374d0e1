"""SageMaker's operations on processing and training jobs, the same for both kinds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from medloop.local import processes
from medloop.local.api.paging import is_listed, page
from medloop.local.errors import invalid
from medloop.local.jobs.job import ENDED, TRAINING, Job, JobKind, create_job
from medloop.local.state.backend import Backend
from medloop.local.state.store import Document, pick
from medloop.local.state.tags import put_tags

Handler = Callable[[Backend, Document], Document]


def operations(kind: JobKind) -> dict[str, Handler]:
    """The Create, Describe, List and Stop operations of a kind of job, by name."""

    def create(backend: Backend, params: Document) -> Document:
        start = partial(processes.start_detached, backend.home, kind.arn(params[kind.name_field]))
        with backend.store.write() as write:
            job = create_job(write, kind, params, start)
            put_tags(write, job[f"{kind.name}Arn"], params.get("Tags") or [])
        return pick(job, f"{kind.name}Arn")

    def describe(backend: Backend, params: Document) -> Document:
        job = Job(backend, kind, params[kind.name_field])
        return job.reap(job.read())

    def stop(backend: Backend, params: Document) -> Document:
        return stop_job(Job(backend, kind, params[kind.name_field]))

    def list_(backend: Backend, params: Document) -> Document:
        return page_of_jobs(kind, params, [_summary(kind, job) for job in current_jobs(backend, kind, Job, params)])

    return {
        f"Create{kind.name}": create,
        f"Describe{kind.name}": describe,
        f"Stop{kind.name}": stop,
        f"List{kind.name}s": list_,
    }


def stop_job(job: Job) -> Document:
    """Ask a job's process to stop it; the process sees that within a fraction of a second."""
    status = job.reap(job.read())[job.kind.status]
    if status in ENDED:
        raise invalid(f"The request was rejected because the job is in status {status}.")
    secondary = {"SecondaryStatus": "Stopping"} if job.kind is TRAINING else {}
    job.change(**{job.kind.status: "Stopping"}, **secondary)
    return {}


def current_jobs(backend: Backend, kind: JobKind, handle: type[Job], params: Document) -> list[Document]:
    """The records of the jobs of a kind that a list request asks for, those of dead processes ended."""
    with backend.store.read() as read:
        known = read.select(kind.table)
    current = [handle.recorded(backend, kind, job).reap(job) for job in known]
    return [job for job in current if is_listed(job, params, kind.name_field, kind.status)]


def page_of_jobs(kind: JobKind, params: Document, summaries: list[Document]) -> Document:
    """A page of a list of jobs."""
    name = kind.name_field
    by = {"Name": name, "Status": kind.status}.get(params.get("SortBy", ""), "CreationTime")
    return page(summaries, params, member=f"{kind.name}Summaries", sort=lambda job: (job[by], job[name]))


def _summary(kind: JobKind, job: Document) -> Document:
    common = (kind.name_field, f"{kind.name}Arn", "CreationTime", f"{kind.type.time_prefix}EndTime", "LastModifiedTime")
    more = ("SecondaryStatus",) if kind is TRAINING else ("FailureReason", "ExitMessage")
    return pick(job, *common, kind.status, *more)
