"""Tuning jobs and their trials, read through a SageMaker client of either target."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from medloop.commands.execution_status import Execution, StepJob, seconds_between
from medloop.commands.output import duration

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker.type_defs import HyperParameterTrainingJobSummaryTypeDef


@dataclass(frozen=True)
class Trial:
    """One training job of a tuning job."""

    number: int
    job: str
    status: str
    hyperparameters: dict[str, str]
    """The tuned ones, as the job was given them."""
    objective: float | None
    started: datetime | None
    seconds: float | None
    best: bool
    reason: str


@dataclass(frozen=True)
class TuningTrials:
    """A Tuning step's job, with its trials in the order of their numbers; the metric is the objective."""

    step: str
    job: str
    status: str
    strategy: str
    """Bayesian, Random, Grid or Hyperband."""
    metric: str
    maximise: bool
    scaling: dict[str, str]
    """The scale of each numeric hyperparameter's range."""
    trials: list[Trial]


def read_tunings(sagemaker: SageMakerClient, execution: Execution) -> list[TuningTrials]:
    """Read the tuning jobs of an execution."""
    return [
        read_tuning(sagemaker, step.name, step.job)
        for step in execution.steps
        if step.job is not None and step.job.type.trials
    ]


def read_tuning(sagemaker: SageMakerClient, step: str, job: StepJob) -> TuningTrials:
    """Read a tuning job and its trials."""
    tuning_job = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=job.name)
    config = tuning_job["HyperParameterTuningJobConfig"]
    best = tuning_job.get("BestTrainingJob", {}).get("TrainingJobName")
    pages = sagemaker.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job").paginate(
        HyperParameterTuningJobName=job.name,
        SortBy="CreationTime",
        SortOrder="Ascending",
        PaginationConfig={"PageSize": 100},
    )
    raw = [trial for page in pages for trial in page["TrainingJobSummaries"]]
    ranges = config.get("ParameterRanges", {})
    numeric = [*ranges.get("IntegerParameterRanges", []), *ranges.get("ContinuousParameterRanges", [])]
    objective = config.get("HyperParameterTuningJobObjective", {})
    return TuningTrials(
        step=step,
        job=job.name,
        status=tuning_job["HyperParameterTuningJobStatus"],
        strategy=config["Strategy"],
        metric=objective.get("MetricName", ""),
        maximise=objective.get("Type") == "Maximize",
        scaling={item["Name"]: item.get("ScalingType", "Auto") for item in numeric},
        trials=sorted((_trial(job.name, item, best) for item in raw), key=lambda trial: trial.number),
    )


def trial_rows(tuning: TuningTrials) -> Iterable[tuple[object, ...]]:
    """Yield the rows of a table of trials: number, state, hyperparameters, objective, time, remark."""
    for trial in tuning.trials:
        hyperparameters = ", ".join(f"{name}={short(value)}" for name, value in sorted(trial.hyperparameters.items()))
        remark = "best" if trial.best else " ".join(trial.reason.split())
        yield trial.number, trial.status, hyperparameters, trial.objective, duration(trial.seconds), remark


def short(value: str) -> str:
    """Return a hyperparameter's value, a fraction with four significant digits."""
    try:
        number = float(value)
    except ValueError:
        return value
    return value if number.is_integer() else f"{number:.4g}"


def _trial(tuning: str, raw: HyperParameterTrainingJobSummaryTypeDef, best: str | None) -> Trial:
    name, started, ended = raw["TrainingJobName"], raw.get("TrainingStartTime"), raw.get("TrainingEndTime")
    number = name.removeprefix(f"{tuning}-").partition("-")[0]
    value = raw.get("FinalHyperParameterTuningJobObjectiveMetric", {}).get("Value")
    return Trial(
        number=int(number) if number.isdecimal() else 0,
        job=name,
        status=raw["TrainingJobStatus"],
        hyperparameters=dict(raw.get("TunedHyperParameters", {})),
        objective=None if value is None else float(value),
        started=started,
        seconds=seconds_between(started, ended) if started and ended else None,
        best=name == best,
        reason=raw.get("FailureReason", ""),
    )
