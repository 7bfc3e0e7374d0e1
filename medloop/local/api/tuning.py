"""SageMaker's operations on hyperparameter tuning jobs."""

from __future__ import annotations

from functools import partial

from medloop.local import processes
from medloop.local.api.paging import is_listed, page
from medloop.local.errors import invalid
from medloop.local.jobs.job import ENDED
from medloop.local.state.backend import Backend
from medloop.local.state.store import Document, Table, pick
from medloop.local.tuning import tuning_jobs
from medloop.local.tuning.tuning_jobs import ARN, CONFIG, NAME, OBJECTIVE, STATUS


def create(backend: Backend, params: Document) -> Document:
    """CreateHyperParameterTuningJob: records it and starts its process, detached."""
    with backend.store.write() as write:
        start = partial(processes.start_detached, backend.home, tuning_jobs.tuning_arn(params[NAME]))
        return pick(tuning_jobs.create(write, params, start), ARN)


def describe(backend: Backend, params: Document) -> Document:
    """DescribeHyperParameterTuningJob."""
    document = _read(backend, params)
    with backend.store.read() as transaction:
        return tuning_jobs.describe(transaction, document)


def stop(backend: Backend, params: Document) -> Document:
    """StopHyperParameterTuningJob: its process sees it within a fraction of a second and ends the trials."""
    document = _read(backend, params)
    if document[STATUS] in ENDED:
        raise invalid(f"The request was rejected because the tuning job is in status {document[STATUS]}.")
    tuning_jobs.change(backend, document[NAME], **{STATUS: "Stopping"})
    return {}


def list_(backend: Backend, params: Document) -> Document:
    """ListHyperParameterTuningJobs."""
    with backend.store.read() as transaction:
        known = transaction.select(Table.TUNING_JOBS)
    listed = [job for job in (tuning_jobs.reap(backend, job) for job in known) if is_listed(job, params, NAME, STATUS)]
    with backend.store.read() as transaction:
        shown = [_summary(tuning_jobs.describe(transaction, job)) for job in listed]
    by = {"Name": NAME, "Status": STATUS}.get(params.get("SortBy", ""), "CreationTime")
    member = "HyperParameterTuningJobSummaries"
    return page(shown, params, member=member, sort=lambda job: (job[by], job[NAME]))


def list_trials(backend: Backend, params: Document) -> Document:
    """ListTrainingJobsForHyperParameterTuningJob."""
    document = _read(backend, params)
    with backend.store.read() as transaction:
        shown = tuning_jobs.summaries(transaction, document)
    if "StatusEquals" in params:
        shown = [item for item in shown if item["TrainingJobStatus"] == params["StatusEquals"]]
    member, by = "TrainingJobSummaries", params.get("SortBy", "Name")
    if by == "FinalObjectiveMetricValue":  # as the service: only those that have one
        shown = [item for item in shown if OBJECTIVE in item]
        sort = lambda item: (item[OBJECTIVE]["Value"], item["TrainingJobName"])  # noqa: E731 (one of two, used once)
        return page(shown, params, member=member, sort=sort)
    field = {"CreationTime": "CreationTime", "Status": "TrainingJobStatus"}.get(by, "TrainingJobName")
    return page(shown, params, member=member, sort=lambda item: (item[field], item["TrainingJobName"]))


def _read(backend: Backend, params: Document) -> Document:
    with backend.store.read() as transaction:
        document = tuning_jobs.read(transaction, params[NAME])
    return tuning_jobs.reap(backend, document)


def _summary(document: Document) -> Document:
    shown = pick(document, NAME, ARN, STATUS, "CreationTime", "HyperParameterTuningEndTime", "LastModifiedTime")
    shown |= pick(document, "TrainingJobStatusCounters", "ObjectiveStatusCounters")
    config = document[CONFIG]
    return shown | {"Strategy": config["Strategy"], "ResourceLimits": config["ResourceLimits"]}
