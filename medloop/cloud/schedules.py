"""Schedules of EventBridge Scheduler that start a pipeline.

The target is StartPipelineExecution itself (a "universal target"), because the templated one can't fill a parameter
at each start: DataVersion, which tells the step cache that the data may have changed, is the time that the schedule
names. The start's token is made of it too, so that a delivery that is repeated starts nothing twice. (EventBridge's
execution id has 16 characters, where the token has at least 32, and differs in each attempt.)
https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html

Where infra is deployed, the target is its guard instead (infra/scheduling): a state machine that computes DataVersion
from the data, as `medloop run` does, lets one execution of a pipeline run at a time, and skips what is trained already.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from medloop.cloud.base_images import partition_of
from medloop.errors import UserError

if TYPE_CHECKING:
    from mypy_boto3_scheduler.type_defs import TargetTypeDef

    from medloop.cloud.target import Target

START = "scheduler:::aws-sdk:sagemaker:startPipelineExecution"
"""The end of the universal target's ARN."""
SCHEDULED_TIME = "<aws.scheduler.scheduled-time>"
"""A placeholder that EventBridge replaces by the start's time, `2022-03-22T18:59:43Z`, the same in each attempt."""
PREFIX = "medloop-"


@dataclass(frozen=True)
class Schedule:
    """A schedule.

    Args:
        name: The name that the user gave.
        pipeline: The pipeline that it starts.
        expression: `rate(…)`, `cron(…)` or `at(…)`.
        timezone: The time zone of a cron expression.
        parameters: Pipeline parameters of each start.
        state: ENABLED or DISABLED.
        arn: The service's.
        target: ARN of what it starts: the guard, or the service's own StartPipelineExecution.
    """

    name: str
    pipeline: str
    expression: str
    timezone: str
    parameters: dict[str, str]
    state: str
    arn: str
    target: str


def create_schedule(
    target: Target,
    name: str,
    pipeline: str,
    expression: str,
    timezone: str,
    parameters: Mapping[str, str],
    role: str,
    *,
    guard: str | None = None,
    dead_letters: str | None = None,
) -> Schedule:
    """Start a pipeline by the clock.

    Args:
        target: The pipeline's target.
        name: The schedule's name.
        pipeline: The pipeline's name; it must be on the target.
        expression: EventBridge's `rate(…)`, `cron(…)` or `at(…)`.
        timezone: IANA's name of a time zone, for cron.
        parameters: Pipeline parameters of each start; DataVersion is added.
        role: ARN of the role that EventBridge starts the pipeline, or the guard, with.
        guard: ARN of the state machine that starts the pipeline; None: the schedule itself does.
        dead_letters: ARN of the queue that keeps a start that could not be delivered; None: it is lost.

    Raises:
        UserError: The name is taken, or the expression is none.
    """
    try:
        target.boto.client("scheduler").create_schedule(
            Name=PREFIX + name,
            Description=f"Starts pipeline {pipeline}",
            ScheduleExpression=expression,
            ScheduleExpressionTimezone=timezone,
            FlexibleTimeWindow={"Mode": "OFF"},
            Target=_target(target, f"schedule {name}", pipeline, parameters, role, guard)
            | ({"DeadLetterConfig": {"Arn": dead_letters}} if dead_letters else {}),
        )
    except ClientError as error:
        if error.response["Error"]["Code"] == "ConflictException":
            raise UserError(f"schedule {name}: exists already; delete it first, or choose another name") from None
        if error.response["Error"]["Code"] == "ValidationException":
            reason = error.response["Error"]["Message"]
            raise UserError(f"schedule {name}: {reason}; such as 'rate(7 days)' or 'cron(0 3 ? * SUN *)'") from None
        raise
    return read_schedule(target, name)


def _target(
    target: Target, origin: str, pipeline: str, parameters: Mapping[str, str], role: str, guard: str | None
) -> TargetTypeDef:
    """The service's Target: what is started, with what, and how often that is tried."""
    parameters = parameters if guard else {"DataVersion": SCHEDULED_TIME, **parameters}
    request = {
        "PipelineName": pipeline,
        "PipelineExecutionDescription": origin,
        "PipelineParameters": [{"Name": key, "Value": value} for key, value in sorted(parameters.items())],
        **({} if guard else {"ClientRequestToken": _token(origin, pipeline)}),
    }
    return {
        "Arn": guard or f"arn:{partition_of(target.region)['id']}:{START}",
        "RoleArn": role,
        "Input": json.dumps(request, sort_keys=True),
        "RetryPolicy": {"MaximumRetryAttempts": 3, "MaximumEventAgeInSeconds": 3600},
    }


def _token(origin: str, pipeline: str) -> str:
    """StartPipelineExecution's token: 32 characters of the schedule, then the time; two schedules never share one."""
    return f"{hashlib.sha256(f'{pipeline}/{origin}'.encode()).hexdigest()[:32]}-{SCHEDULED_TIME}"


def read_schedule(target: Target, name: str) -> Schedule:
    """A schedule by its name.

    Raises:
        UserError: There is none.
    """
    try:
        response = target.boto.client("scheduler").get_schedule(Name=PREFIX + name)
    except ClientError as error:
        raise _absent(error, name) from None
    request = _request(response["Target"].get("Input"))
    return Schedule(
        name=name,
        pipeline=str(request.get("PipelineName", "")),
        expression=response["ScheduleExpression"],
        timezone=response.get("ScheduleExpressionTimezone", "UTC"),
        parameters={item["Name"]: item["Value"] for item in request.get("PipelineParameters", [])},
        state=response["State"],
        arn=response["Arn"],
        target=response["Target"]["Arn"],
    )


def list_schedules(target: Target) -> list[Schedule]:
    """Our schedules, by name."""
    client = target.boto.client("scheduler")
    pages = client.get_paginator("list_schedules").paginate(NamePrefix=PREFIX)
    names = sorted(item["Name"].removeprefix(PREFIX) for page in pages for item in page["Schedules"])
    return [read_schedule(target, name) for name in names]


def delete_schedule(target: Target, name: str) -> None:
    """Delete a schedule; executions that it started keep running.

    Raises:
        UserError: There is none.
    """
    try:
        target.boto.client("scheduler").delete_schedule(Name=PREFIX + name)
    except ClientError as error:
        raise _absent(error, name) from None


def _absent(error: ClientError, name: str) -> Exception:
    if error.response["Error"]["Code"] != "ResourceNotFoundException":
        return error
    return UserError(f"schedule {name}: there is none; `medloop schedules list` shows those there are")


def _request(text: str | None) -> dict[str, Any]:
    """A schedule's input as StartPipelineExecution takes it; empty if the schedule's input has another form."""
    try:
        content = json.loads(text or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
