"""SageMaker's operations on hyperparameter tuning jobs."""

from __future__ import annotations

from functools import partial

from medloop.local import processes
from medloop.local.api.jobs import page_of_jobs, stop_job
from medloop.local.api.paging import page
from medloop.local.jobs.job import TUNING
from medloop.local.state.backend import Backend
from medloop.local.state.store import Document, pick
from medloop.local.tuning import tuning_jobs
from medloop.local.tuning.tuning_jobs import ARN, CONFIG, NAME, OBJECTIVE, STATUS, TuningJob


def create(backend: Backend, params: Document) -> Document:
    """CreateHyperParameterTuningJob: records it and starts its process, detached."""
    with backend.store.write() as write:
        start = partial(processes.start_detached, backend.home, TUNING.arn(params[NAME]))
        return pick(tuning_jobs.create(write, params, start), ARN)


def describe(backend: Backend, params: Document) -> Document:
    """DescribeHyperParameterTuningJob."""
    document = _read(backend, params)
    with backend.store.read() as transaction:
        return tuning_jobs.describe(transaction, document)


def stop(backend: Backend, params: Document) -> Document:
    """StopHyperParameterTuningJob, which stops its trials."""
    return stop_job(TuningJob(backend, TUNING, params[NAME]))


def list_(backend: Backend, params: Document) -> Document:
    """ListHyperParameterTuningJobs."""
    return page_of_jobs(backend, TUNING, TuningJob, params, partial(_summary, backend))


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
    job = TuningJob(backend, TUNING, params[NAME])
    return job.reap(job.read())


def _summary(backend: Backend, job: Document) -> Document:
    with backend.store.read() as transaction:
        document = tuning_jobs.describe(transaction, job)
    shown = pick(document, NAME, ARN, STATUS, "CreationTime", "HyperParameterTuningEndTime", "LastModifiedTime")
    shown |= pick(document, "TrainingJobStatusCounters", "ObjectiveStatusCounters")
    config = document[CONFIG]
    return shown | {"Strategy": config["Strategy"], "ResourceLimits": config["ResourceLimits"]}
