"""Executions, their steps and jobs, as the service describes them, through a SageMaker client of either target."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from medloop.definition.step_types import JOB_TYPES, JobType, type_in_metadata
from medloop.errors import UserError

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker.type_defs import PaginatorConfigTypeDef

    from medloop.cloud.target import Target

RUNNING = frozenset({"Executing", "Stopping"})
_LARGE_PAGES: PaginatorConfigTypeDef = {"PageSize": 100}
"""The most that the service lists in a page; its default is 10."""
USER_ERROR = re.compile(r"exit code:? 2\b|\b(?:DataError|SettingError|TargetError|UserError): ")
"""Signs in a failure text that the job exited 2: the service's wording, or the name of the error."""


@dataclass(frozen=True)
class StepJob:
    """A step's job.

    Args:
        kind: `training`, `processing`, `tuning` or `transform`.
        name: The job's own name, which its log bears too.
        arn: The job's ARN.
    """

    kind: str
    name: str
    arn: str

    @property
    def type(self) -> JobType:
        """The service's names for jobs of this kind."""
        return JOB_TYPES[self.kind]


@dataclass(frozen=True)
class ExecutionStep:
    """One step of an execution; a step that was not reached is not in the service's response."""

    name: str
    type: str
    status: str
    started: datetime | None
    ended: datetime | None
    seconds: float | None
    reason: str
    outcome: str
    cached: bool
    job: StepJob | None
    registered: str | None
    """ARN of the model package that the step registered."""
    source: str = ""
    """Id of the earlier execution whose result this is: from the step cache, or of a step that wasn't selected."""
    attempts: int = 1
    resource: str = ""
    """ARN of the resource of a step without a job: a function that it called, a model or endpoint that it made."""
    answers: dict[str, str] = field(default_factory=dict)
    """Values that its function returned, by name."""

    @property
    def origin(self) -> str:
        """The source of a result that this execution didn't make, as text; empty for its own."""
        if self.cached:
            return f"from the cache of execution {self.source}"
        return f"not selected: as in execution {self.source}" if self.source else ""

    def remark(self, reason: str) -> str:
        """Return the text next to its state: its origin, attempts, the condition's outcome, and this reason."""
        attempts = f"attempt {self.attempts}" if self.attempts > 1 else ""
        outcome = f"condition: {self.outcome.lower()}" if self.outcome else ""
        return "; ".join(filter(None, (self.origin, attempts, outcome, reason)))


@dataclass(frozen=True)
class Execution:
    """One execution with its steps in the order in which they started."""

    id: str
    arn: str
    pipeline: str
    status: str
    started: datetime
    ended: datetime | None
    seconds: float
    reason: str
    parameters: dict[str, str]
    steps: list[ExecutionStep]

    @property
    def running(self) -> bool:
        """True if the execution has not ended."""
        return self.status in RUNNING

    @property
    def may_be_retried(self) -> bool:
        """True if `executions retry` can resume it: it has ended without success, and not by a Fail step."""
        ended = not self.running and self.status != "Succeeded"
        return ended and not any(type_in_metadata(step.type).is_final for step in self.steps)

    @property
    def registered(self) -> str | None:
        """The ARN of the model version that the execution registered, if any."""
        return next((step.registered for step in self.steps if step.registered), None)

    def step(self, name: str) -> ExecutionStep | None:
        """The step of this name, regardless of case."""
        return next((s for s in self.steps if s.name.lower() == name.lower()), None)


def list_executions(sagemaker: SageMakerClient, pipeline: str | None = None) -> list[dict[str, Any]]:
    """Summaries of executions, the newest first, each with its `PipelineName`; none of a pipeline that never ran.

    Raises:
        UserError: There is no pipeline of that name, neither on the target nor installed.
    """
    known = [
        summary["PipelineName"]
        for page in sagemaker.get_paginator("list_pipelines").paginate(PaginationConfig=_LARGE_PAGES)
        for summary in page["PipelineSummaries"]
    ]
    if pipeline is not None and pipeline not in known:
        from medloop.settings import list_pipelines, split_name

        if split_name(pipeline) is None:  # An installed pipeline, of any project, may be one that never ran.
            names = sorted({*known, *list_pipelines()})
            raise UserError(f"there is no pipeline {pipeline!r}; there are: {', '.join(names)}")
    names = [name for name in known if pipeline in (None, name)]
    pages = sagemaker.get_paginator("list_pipeline_executions")
    summaries = [
        {**summary, "PipelineName": name}
        for name in names
        for page in pages.paginate(PipelineName=name, PaginationConfig=_LARGE_PAGES)
        for summary in page["PipelineExecutionSummaries"]
    ]
    return sorted(summaries, key=lambda s: s["StartTime"], reverse=True)


def find_execution(sagemaker: SageMakerClient, execution: str) -> str:
    """The ARN that a full ARN, an id, the unique beginning of an id, or `latest` stands for.

    Raises:
        UserError: Nothing, or more than one execution, fits.
    """
    if not execution:
        raise UserError("the execution's id is empty; `medloop executions list` shows those there are")
    if execution.startswith("arn:"):
        return execution
    arns = [str(s["PipelineExecutionArn"]) for s in list_executions(sagemaker)]
    if execution == "latest" and arns:
        return arns[0]
    fitting = [arn for arn in arns if execution_id(arn).startswith(execution)]
    exact = [arn for arn in fitting if execution_id(arn) == execution]
    if len(exact or fitting) == 1:
        return (exact or fitting)[0]
    if fitting:
        ids = ", ".join(execution_id(arn) for arn in fitting[:5])
        raise UserError(f"execution {execution!r} is not unique: {ids}; give more letters")
    raise UserError(f"there is no execution {execution!r}; `medloop executions list` shows those there are")


def execution_id(arn: str) -> str:
    """The last part of an execution's ARN."""
    return arn.rsplit("/", 1)[-1]


def read_execution(sagemaker: SageMakerClient, arn: str, earlier: Execution | None = None) -> Execution:
    """An execution and its steps as they are now.

    Args:
        sagemaker: SageMaker client.
        arn: The execution's ARN.
        earlier: What was read before: its parameters, which never change, aren't read again.
    """
    response = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    status = response["PipelineExecutionStatus"]
    started = response["CreationTime"]
    ended = None if status in RUNNING else response.get("LastModifiedTime")
    pages = sagemaker.get_paginator("list_pipeline_execution_steps").paginate(PipelineExecutionArn=arn)
    steps = [_step(raw) for page in pages for raw in page["PipelineExecutionSteps"]]
    return Execution(
        id=execution_id(arn),
        arn=arn,
        pipeline=arn.split(":pipeline/")[-1].split("/")[0],
        status=status,
        started=started,
        ended=ended,
        seconds=seconds_between(started, ended) or 0.0,
        reason=response.get("FailureReason", ""),
        parameters=earlier.parameters if earlier else read_parameters(sagemaker, arn),
        steps=sorted(steps, key=lambda s: (s.started is None, s.started or started)),
    )


def read_parameters(sagemaker: SageMakerClient, arn: str) -> dict[str, str]:
    """The parameters of an execution, by name."""
    pages = sagemaker.get_paginator("list_pipeline_parameters_for_execution").paginate(PipelineExecutionArn=arn)
    return {parameter["Name"]: parameter["Value"] for page in pages for parameter in page["PipelineParameters"]}


def _step(raw: Mapping[str, Any]) -> ExecutionStep:
    metadata = raw.get("Metadata") or {}
    kind = next(iter(metadata), "")
    described, row = metadata.get(kind, {}), type_in_metadata(kind)
    arn = str(described.get(row.arn_member, ""))
    started, ended = raw.get("StartTime"), raw.get("EndTime")
    source = raw.get("CacheHitResult") or raw.get("SelectiveExecutionResult") or {}
    return ExecutionStep(
        name=raw["StepName"],
        type=kind,
        status=raw["StepStatus"],
        started=started,
        ended=ended,
        seconds=seconds_between(started, ended),
        reason=raw.get("FailureReason", ""),
        outcome=str(described.get("Outcome", "")),
        cached="CacheHitResult" in raw,
        job=StepJob(row.job.kind, arn.rsplit("/", 1)[-1], arn) if row.job and arn else None,
        registered=arn if row.creates == "CreateModelPackage" and arn else None,
        source=execution_id(source.get("SourcePipelineExecutionArn", "")),
        attempts=raw.get("AttemptCount", 1),
        resource=arn,
        answers={o["Name"]: str(o["Value"]) for o in described.get("OutputParameters", [])},
    )


def seconds_between(started: datetime | None, ended: datetime | None) -> float | None:
    """The seconds from a start to its end, or until now; None without a start, 0 if the clock was set back since."""
    return None if started is None else max(0.0, ((ended or datetime.now(UTC)) - started).total_seconds())


def describe_job(sagemaker: SageMakerClient, job: StepJob) -> dict[str, Any]:
    """The service's description of a step's job."""
    from botocore import xform_name

    describe = getattr(sagemaker, xform_name(job.type.operation.replace("Create", "Describe")))
    return dict(describe(**{job.type.name_member: job.name}))


def output_uri(target: Target, execution: Execution, name: str) -> str | None:
    """URI of an output of the execution's processing jobs, without a slash at its end; None if none wrote it."""
    sagemaker = target.boto.client("sagemaker")
    for step in execution.steps:
        if step.job is None or step.job.kind != "processing" or step.status != "Succeeded":
            continue
        for output in describe_job(sagemaker, step.job).get("ProcessingOutputConfig", {}).get("Outputs", []):
            if output["OutputName"] == name:
                return str(output["S3Output"]["S3Uri"]).rstrip("/")
    return None


def failure_text(sagemaker: SageMakerClient, step: ExecutionStep) -> str:
    """The reason why a step failed: its own, or the one that its job reported, that of a user's error first."""
    if step.job is None:
        return step.reason
    job = describe_job(sagemaker, step.job)
    texts = [step.reason, job.get("FailureReason", ""), job.get("ExitMessage", "")]
    reason: str = max(texts, key=lambda text: (bool(USER_ERROR.search(text)), len(text)))
    return reason


def failed_step(execution: Execution) -> ExecutionStep | None:
    """The step that ended the execution: the last that failed."""
    return next((s for s in reversed(execution.steps) if s.status == "Failed"), None)


def exit_code(sagemaker: SageMakerClient, execution: Execution) -> int:
    """0 where the execution succeeded, 2 where a job was given wrong input, 1 otherwise."""
    if execution.status == "Succeeded":
        return 0
    failed = [step for step in execution.steps if step.status == "Failed" and step.job]
    return 2 if any(USER_ERROR.search(failure_text(sagemaker, step)) for step in failed) else 1
