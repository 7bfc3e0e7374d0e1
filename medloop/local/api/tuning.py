"""SageMaker's operations on hyperparameter tuning jobs."""

from __future__ import annotations

from medloop.local.api.jobs import operations
from medloop.local.api.paging import page
from medloop.local.jobs.job import TUNING
from medloop.local.state.backend import Backend
from medloop.local.state.store import Document, pick
from medloop.local.tuning import tuning_jobs
from medloop.local.tuning.tuning_jobs import ARN, CONFIG, NAME, OBJECTIVE, STATUS, TuningJob


def list_trials(backend: Backend, params: Document) -> Document:
    """ListTrainingJobsForHyperParameterTuningJob."""
    job = TuningJob(backend, TUNING, params[NAME])
    document = job.reap(job.read())
    with backend.store.read() as transaction:
        shown = tuning_jobs.summaries(transaction, document)
    if "StatusEquals" in params:
        shown = [item for item in shown if item["TrainingJobStatus"] == params["StatusEquals"]]
    member, sort_by = "TrainingJobSummaries", params.get("SortBy", "Name")
    if sort_by == "FinalObjectiveMetricValue":  # as the service: only those that have one
        shown = [item for item in shown if OBJECTIVE in item]
        sort = lambda item: (item[OBJECTIVE]["Value"], item["TrainingJobName"])  # noqa: E731 (one of two, used once)
        return page(shown, params, member=member, sort=sort)
    field = {"CreationTime": "CreationTime", "Status": "TrainingJobStatus"}.get(sort_by, "TrainingJobName")
    return page(shown, params, member=member, sort=lambda item: (item[field], item["TrainingJobName"]))


def _describe(backend: Backend, job: Document) -> Document:
    with backend.store.read() as transaction:
        return tuning_jobs.describe(transaction, job)


def _summary(backend: Backend, job: Document) -> Document:
    document = _describe(backend, job)
    shown = pick(document, NAME, ARN, STATUS, "CreationTime", "HyperParameterTuningEndTime", "LastModifiedTime")
    shown |= pick(document, "TrainingJobStatusCounters", "ObjectiveStatusCounters")
    config = document[CONFIG]
    return shown | {"Strategy": config["Strategy"], "ResourceLimits": config["ResourceLimits"]}


OPERATIONS = operations(TUNING, handle=TuningJob, create=tuning_jobs.create, describe=_describe, summary=_summary) | {
    "ListTrainingJobsForHyperParameterTuningJob": list_trials
}
