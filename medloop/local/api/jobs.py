"""SageMaker's operations on processing and training jobs, the same for both kinds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from medloop.local import processes
from medloop.local.api.paging import created_between, epoch, page, pick
from medloop.local.api.tags import put_tags
from medloop.local.errors import invalid
from medloop.local.jobs import jobs
from medloop.local.jobs.jobs import ENDED, TRAINING, JobKind
from medloop.local.state.backend import Backend
from medloop.local.state.store import Document

Handler = Callable[[Backend, Document], Document]


def operations(kind: JobKind) -> dict[str, Handler]:
    """The Create, Describe, List and Stop operations of a kind of job, by name."""

    def create(backend: Backend, params: Document) -> Document:
        name = params[f"{kind.name}Name"]
        with backend.store.write() as write:
            spawn = partial(processes.spawn_module, backend.home, "medloop.local.jobs.runner", kind.arn(name))
            job = jobs.create(write, kind, params, spawn)
            put_tags(write, job[f"{kind.name}Arn"], params.get("Tags") or [])
        return pick(job, f"{kind.name}Arn")

    def describe(backend: Backend, params: Document) -> Document:
        return _read(backend, kind, params)

    def stop(backend: Backend, params: Document) -> Document:
        job = _read(backend, kind, params)
        if job[kind.status] in ENDED:
            raise invalid(f"The request was rejected because the job is in status {job[kind.status]}.")
        secondary = {"SecondaryStatus": "Stopping"} if kind is TRAINING else {}
        jobs.change(backend, kind, job[f"{kind.name}Name"], **{kind.status: "Stopping"}, **secondary)
        return {}

    def list_(backend: Backend, params: Document) -> Document:
        with backend.store.read() as read:
            found = read.select(kind.table)
        wanted = [job for job in (jobs.reap(backend, kind, job) for job in found) if _wanted(kind, job, params)]
        shown = [_summary(kind, job) for job in wanted]
        name = f"{kind.name}Name"
        by = {"Name": name, "Status": kind.status}.get(params.get("SortBy", ""), "CreationTime")
        return page(shown, params, member=f"{kind.name}Summaries", sort=lambda job: (job[by], job[name]))

    return {
        f"Create{kind.name}": create,
        f"Describe{kind.name}": describe,
        f"Stop{kind.name}": stop,
        f"List{kind.name}s": list_,
    }


def _read(backend: Backend, kind: JobKind, params: Document) -> Document:
    with backend.store.read() as read:
        job = jobs.read(read, kind, params[f"{kind.name}Name"])
    return jobs.reap(backend, kind, job)


def _wanted(kind: JobKind, job: Document, params: Document) -> bool:
    modified = job["LastModifiedTime"]
    return (
        params.get("NameContains", "") in job[f"{kind.name}Name"]
        and params.get("StatusEquals", job[kind.status]) == job[kind.status]
        and created_between(job, params, "CreationTimeAfter", "CreationTimeBefore")
        and not ("LastModifiedTimeAfter" in params and modified <= epoch(params["LastModifiedTimeAfter"]))
        and not ("LastModifiedTimeBefore" in params and modified >= epoch(params["LastModifiedTimeBefore"]))
    )


def _summary(kind: JobKind, job: Document) -> Document:
    common = (f"{kind.name}Name", f"{kind.name}Arn", "CreationTime", f"{kind.verb}EndTime", "LastModifiedTime")
    more = ("SecondaryStatus",) if kind is TRAINING else ("FailureReason", "ExitMessage")
    return pick(job, *common, kind.status, *more)
