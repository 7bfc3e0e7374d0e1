"""SageMaker's operations on processing and training jobs, the same for both kinds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from medloop.local import processes
from medloop.local.api.paging import page_of_records
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
        return page_of_jobs(backend, kind, Job, params, partial(_summary, kind))

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


def page_of_jobs(
    backend: Backend, kind: JobKind, handle: type[Job], params: Document, show: Callable[[Document], Document]
) -> Document:
    """A page of the list of jobs of a kind, as `show` has each; those of dead processes are ended first."""
    with backend.store.read() as read:
        known = read.select(kind.table)
    jobs = [handle.recorded(backend, kind, job).reap(job) for job in known]
    member, name = f"{kind.name}Summaries", kind.name_field
    return page_of_records(jobs, params, member=member, name=name, status=kind.status, show=show)


def _summary(kind: JobKind, job: Document) -> Document:
    common = (kind.name_field, f"{kind.name}Arn", "CreationTime", f"{kind.type.time_prefix}EndTime", "LastModifiedTime")
    more = ("SecondaryStatus",) if kind is TRAINING else ("FailureReason", "ExitMessage")
    return pick(job, *common, kind.status, *more)
