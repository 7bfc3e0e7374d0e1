"""Schedules of EventBridge Scheduler that start a pipeline.

The target is StartPipelineExecution itself (a "universal target"), because the templated one can't fill a parameter
at each start: DataVersion, which tells the step cache that the data may have changed, is the schedule's own
execution id, and the start's token too, so that a delivery that is repeated starts nothing twice.
https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html

Where infra is deployed, the target is its guard instead (infra/scheduling): a state machine that computes DataVersion
from the data, as `medloop run` does, lets one execution of a pipeline run at a time, and skips what is trained already.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from medloop.errors import UserError

if TYPE_CHECKING:
    from mypy_boto3_scheduler.type_defs import TargetTypeDef

    from medloop.cloud.target import Target

START = "arn:aws:scheduler:::aws-sdk:sagemaker:startPipelineExecution"
EXECUTION_ID = "<aws.scheduler.execution-id>"
"""A placeholder that EventBridge replaces by an id of its own at each start."""
PREFIX = "medloop-"


@dataclass(frozen=True)
class Guard:
    """The deployed stack's guard, which starts pipelines instead of a schedule.

    Args:
        arn: Its state machine's.
        dead_letters: ARN of the queue that keeps a start that could not be delivered; None: it is lost.
    """

    arn: str
    dead_letters: str | None = None


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
    guard: Guard | None = None,
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
        guard: The function that starts the pipeline; None: the schedule itself does.

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
            Target=_target(name, pipeline, parameters, role, guard),
        )
    except ClientError as error:
        if error.response["Error"]["Code"] == "ConflictException":
            raise UserError(f"schedule {name}: exists already; delete it first, or choose another name") from None
        if error.response["Error"]["Code"] == "ValidationException":
            reason = error.response["Error"]["Message"]
            raise UserError(f"schedule {name}: {reason}; such as 'rate(7 days)' or 'cron(0 3 ? * SUN *)'") from None
        raise
    return read_schedule(target, name)


def _target(name: str, pipeline: str, parameters: Mapping[str, str], role: str, guard: Guard | None) -> TargetTypeDef:
    """The service's Target: what is started, with what, and how often that is tried."""
    parameters = parameters if guard else {"DataVersion": EXECUTION_ID, **parameters}
    request = {
        "PipelineName": pipeline,
        "PipelineExecutionDescription": f"schedule {name}",
        "PipelineParameters": [{"Name": key, "Value": value} for key, value in sorted(parameters.items())],
        **({} if guard else {"ClientRequestToken": EXECUTION_ID}),
    }
    target: TargetTypeDef = {
        "Arn": guard.arn if guard else START,
        "RoleArn": role,
        "Input": json.dumps(request, sort_keys=True),
        "RetryPolicy": {"MaximumRetryAttempts": 3, "MaximumEventAgeInSeconds": 3600},
    }
    if guard and guard.dead_letters:
        target["DeadLetterConfig"] = {"Arn": guard.dead_letters}
    return target


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
