"""Tuning jobs as records: made, changed, described with their trials, and ended when the process that ran them is gone.

A trial is a training job whose record names its tuning job (`TuningJobArn`) and the hyperparameters that were tuned
(`_tuned`). The tuning job's own record contains no copy of its trials' records.
"""

from __future__ import annotations

from collections.abc import Callable

from medloop.local import processes
from medloop.local.errors import check_name, in_use, invalid
from medloop.local.jobs.job import ENDED, ENGINE_DIED, TRAINING, TUNING, Job, JobKind, read_job
from medloop.local.process_identity import Identity
from medloop.local.requests import check_request
from medloop.local.state.home import now
from medloop.local.state.store import Document, Table, Transaction, pick
from medloop.local.state.tags import put_tags
from medloop.local.tuning.ranges import NumericRange, read_ranges
from medloop.local.tuning.search import EarlierTrial, grid, max_resource

NAME, STATUS = TUNING.name_field, TUNING.status
ARN = f"{TUNING.name}Arn"
CONFIG = "HyperParameterTuningJobConfig"
OBJECTIVE = "FinalHyperParameterTuningJobObjectiveMetric"
MAX_NAME = 32
_NOT_OF_A_TRIAL = ("DefinitionName", "TuningObjective", "HyperParameterRanges", "StaticHyperParameters")
_UNSUPPORTED = ("TrainingJobDefinitions", "Autotune")
_MAX_SUMMARIES = 50
_UNSUPPORTED_IN_DEFINITION = ("HyperParameterTuningResourceConfig",)


def create(write: Transaction, _: JobKind, request: Document, start: Callable[[], Identity]) -> Document:
    """Record a new tuning job.

    Args:
        write: The transaction.
        request: CreateHyperParameterTuningJob's, checked against the service's model.
        start: Names the process that will run it; called once the request is valid.

    Raises:
        ServiceError: ResourceInUse when the name is taken; ValidationException that names what can't be.
    """
    name = request[NAME]
    check_name(NAME, name, MAX_NAME)
    if write.get(Table.TUNING_JOBS, name):
        raise in_use(f"Hyperparameter tuning job with name {name} already exists; names must be unique")
    _check(write, request)
    time = now()
    document = {key: value for key, value in request.items() if key != "Tags"}
    document |= {ARN: TUNING.arn(name), STATUS: "InProgress", "CreationTime": time, "LastModifiedTime": time}
    document["_supervisor"] = start()
    write.put(Table.TUNING_JOBS, name, document)
    put_tags(write, document[ARN], request.get("Tags") or [])
    return document


def trial_request(document: Document, number: int, hyperparameters: dict[str, str], suffix: str) -> Document:
    """The CreateTrainingJob request of a trial.

    Args:
        document: The tuning job.
        number: The trial's, from 1.
        hyperparameters: The tuned ones.
        suffix: Makes the name unique, as the service does.
    """
    definition = document["TrainingJobDefinition"]
    name = f"{document[NAME]}-{number:03d}-{suffix}"
    request = {key: value for key, value in definition.items() if key not in _NOT_OF_A_TRIAL}
    objective = document[CONFIG]["HyperParameterTuningJobObjective"]["MetricName"]
    objective_variable = {"_tuning_objective_metric": objective}
    request |= {
        "TrainingJobName": name,
        "HyperParameters": {**definition.get("StaticHyperParameters", {}), **hyperparameters, **objective_variable},
    }
    if "CheckpointConfig" in request:  # a trial must not resume from another's checkpoints
        config = request["CheckpointConfig"]
        request["CheckpointConfig"] = {**config, "S3Uri": f"{config['S3Uri'].rstrip('/')}/{name}"}
    return request


def trials(transaction: Transaction, name: str) -> list[Document]:
    """The training jobs of a tuning job, in the order of their numbers."""
    trial_jobs = [job for job in transaction.select(Table.TRAINING_JOBS) if job.get("TuningJobArn") == TUNING.arn(name)]
    return sorted(trial_jobs, key=lambda job: str(job["TrainingJobName"]))


class TuningJob(Job):
    """A tuning job, whose trials end with it."""

    def reap(self, document: Document) -> Document:
        """End it when its process is gone, its trials first."""
        if document[STATUS] in ENDED or processes.alive(document["_supervisor"], self.backend.home):
            return document
        if not self.backend.is_writable:
            return document
        with self.backend.store.read() as transaction:
            left = trials(transaction, self.name)
        for job in left:
            Job.recorded(self.backend, TRAINING, job).reap(job)
        return self.end("Failed", FailureReason=ENGINE_DIED)


def objective(document: Document, job: Document) -> Document | None:
    """A trial's objective as its log last reported it; None if it reported none."""
    objective_metric = document[CONFIG]["HyperParameterTuningJobObjective"]
    reported = [m for m in job.get("FinalMetricDataList") or [] if m["MetricName"] == objective_metric["MetricName"]]
    return {**objective_metric, "Value": reported[-1]["Value"]} if reported else None


def summary(document: Document, job: Document) -> Document:
    """A trial as ListTrainingJobsForHyperParameterTuningJob shows it."""
    shown = pick(
        job,
        "TrainingJobName",
        "TrainingJobArn",
        "CreationTime",
        "TrainingStartTime",
        "TrainingEndTime",
        "TrainingJobStatus",
        "FailureReason",
    )
    shown |= {"TuningJobName": document[NAME], "TunedHyperParameters": job.get("_tuned", {})}
    value = objective(document, job)
    if value is not None and job["TrainingJobStatus"] in ("Completed", "Stopped"):
        return shown | {OBJECTIVE: value, "ObjectiveStatus": "Succeeded"}
    return shown | {"ObjectiveStatus": "Failed" if job["TrainingJobStatus"] in ENDED else "Pending"}


def best(document: Document, summaries: list[Document]) -> Document | None:
    """The completed trial with the best objective, the first of equal ones; None where none completed with one."""
    done = [item for item in summaries if item["TrainingJobStatus"] == "Completed" and OBJECTIVE in item]
    sign = 1 if document[CONFIG]["HyperParameterTuningJobObjective"]["Type"] == "Maximize" else -1
    return max(done, key=lambda item: sign * item[OBJECTIVE]["Value"], default=None)


def summaries(transaction: Transaction, document: Document) -> list[Document]:
    """The summaries of a tuning job's trials, in the order of their numbers."""
    return [summary(document, job) for job in trials(transaction, document[NAME])]


def describe(transaction: Transaction, document: Document) -> Document:
    """DescribeHyperParameterTuningJob's response."""
    trial_summaries = summaries(transaction, document)
    status = [item["TrainingJobStatus"] for item in trial_summaries]
    states = [item["ObjectiveStatus"] for item in trial_summaries]
    counters = {
        "Completed": status.count("Completed"),
        "InProgress": sum(item not in ENDED for item in status),
        "RetryableError": 0,
        "NonRetryableError": status.count("Failed"),
        "Stopped": status.count("Stopped"),
    }
    shown = {
        **document,
        "TrainingJobStatusCounters": counters,
        "ObjectiveStatusCounters": {name: states.count(name) for name in ("Succeeded", "Pending", "Failed")},
    }
    if (winner := best(document, trial_summaries)) is not None:
        shown["BestTrainingJob"] = winner
        if document.get("WarmStartConfig", {}).get("WarmStartType") == "IdenticalDataAndAlgorithm":
            earlier = [item for parent in _parents(transaction, document) for item in summaries(transaction, parent)]
            shown["OverallBestTrainingJob"] = best(document, [*trial_summaries, *earlier])
    return shown


def properties(transaction: Transaction, document: Document) -> Document:
    """Properties of a Tuning step for later steps: the Describe response, and the trials, best first.

    https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-properties.html (Tuning step)
    """
    left, ordered = summaries(transaction, document), list[Document]()
    while len(ordered) < _MAX_SUMMARIES and (winner := best(document, left)) is not None:
        ordered.append(winner)
        left.remove(winner)
    return {**describe(transaction, document), "TrainingJobSummaries": ordered}


def known_trials(transaction: Transaction, document: Document) -> list[EarlierTrial]:
    """The trials of the parents that a warm start names, those with an objective."""
    known = []
    for parent in _parents(transaction, document):
        for job in trials(transaction, parent[NAME]):
            value = objective(parent, job)
            if value is not None and job["TrainingJobStatus"] in ("Completed", "Stopped"):
                known.append(EarlierTrial(job.get("HyperParameters", {}), value["Value"]))
    return known


def _parents(transaction: Transaction, document: Document) -> list[Document]:
    return [read_job(transaction, TUNING, name) for name in _parent_names(document)]


def _parent_names(request: Document) -> list[str]:
    config = request.get("WarmStartConfig") or {}
    return [item[NAME] for item in config.get("ParentHyperParameterTuningJobs") or []]


def _check(transaction: Transaction, request: Document) -> None:
    """Refuse what the service refuses, and what this backend can't do."""
    for name in _UNSUPPORTED:
        if request.get(name):
            raise invalid(f"{name} is not known to the local backend; give one TrainingJobDefinition with ranges.")
    if not request.get("TrainingJobDefinition"):
        raise invalid("TrainingJobDefinition is missing.")
    config, definition = request[CONFIG], request["TrainingJobDefinition"]
    for name in _UNSUPPORTED_IN_DEFINITION:
        if definition.get(name):
            raise invalid(f"TrainingJobDefinition.{name} is not known to the local backend; give ResourceConfig.")
    if config.get("TuningJobCompletionCriteria"):
        raise invalid("TuningJobCompletionCriteria are not known to the local backend; limit the number of jobs.")
    _check_objective(config, definition)
    static = definition.get("StaticHyperParameters") or {}
    _check_strategy(config, static)
    both = {item.name for item in read_ranges(config)} & set(static)
    if both:
        raise invalid(f"The hyperparameter {min(both)} is both static and tuned.")
    for name in _parent_names(request):
        if read_job(transaction, TUNING, name)[STATUS] not in ENDED:
            raise invalid(f"The parent tuning job {name} has not ended.")
    check_request("CreateTrainingJob", trial_request(request, 1, {}, "check"))


def _check_objective(config: Document, definition: Document) -> None:
    objective = config.get("HyperParameterTuningJobObjective")
    if not objective:
        raise invalid("HyperParameterTuningJobObjective is missing.")
    metrics = {item["Name"] for item in definition["AlgorithmSpecification"].get("MetricDefinitions") or []}
    if objective["MetricName"] not in metrics:
        raise invalid(f"The objective metric {objective['MetricName']} is none of the metric definitions.")


def _check_strategy(config: Document, static: dict[str, str]) -> None:
    strategy, limits, ranges = config["Strategy"], config["ResourceLimits"], read_ranges(config)
    max_jobs = limits.get("MaxNumberOfTrainingJobs")
    if strategy == "Grid":
        intervals = [item.name for item in ranges if isinstance(item, NumericRange)]
        if intervals:
            raise invalid(f"Grid takes categorical hyperparameters only; {intervals[0]} is none.")
        if max_jobs not in (None, len(grid(ranges))):
            raise invalid(f"MaxNumberOfTrainingJobs must be the grid's size, {len(grid(ranges))}, or absent.")
    elif max_jobs is None:
        raise invalid("MaxNumberOfTrainingJobs is missing.")
    if max_jobs is not None and limits["MaxParallelTrainingJobs"] > max_jobs:
        raise invalid("MaxParallelTrainingJobs must not be greater than MaxNumberOfTrainingJobs.")
    if strategy != "Hyperband":
        if config.get("StrategyConfig"):
            raise invalid(f"StrategyConfig is for Hyperband; the strategy is {strategy}.")
        return
    if config.get("TrainingJobEarlyStoppingType", "Off") != "Off":
        raise invalid("Hyperband stops training jobs by itself: TrainingJobEarlyStoppingType must be Off.")
    if max_resource(config, static) is None:
        raise invalid("Hyperband needs MaxResource, or a static hyperparameter named epochs.")
