"""Schedules, by the same calls on this machine and on moto's account."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from infra.scheduling.guard import read_trigger
from medloop.cloud.schedules import EXECUTION_ID, START, Guard, create_schedule, delete_schedule, list_schedules
from medloop.cloud.sessions import open_target
from medloop.cloud.target import Target
from medloop.errors import UserError

ROLE = "arn:aws:iam::123456789012:role/scheduler"
QUEUE = "arn:aws:sqs:us-east-1:123456789012:medloop-dead-letters"
PARAMETERS = {"InputData": "s3://bucket/data/", "Epochs": "5"}


@pytest.fixture(params=["local", "moto"])
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """A target without schedules."""
    if request.param == "local":
        yield open_target("local", tmp_path)
        return
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "none")
    with mock_aws():
        yield Target("aws", boto3.Session(region_name="us-east-1"), "bucket", ROLE, "123456789012", "us-east-1")


def weekly(target: Target, name: str = "weekly") -> None:
    """A schedule of the classification pipeline."""
    create_schedule(target, name, "classification", "rate(7 days)", "UTC", PARAMETERS, ROLE)


def test_a_schedule_is_listed_with_what_it_starts(target: Target) -> None:
    """What was given comes back, with a DataVersion that is new at each start."""
    weekly(target)
    (schedule,) = list_schedules(target)
    assert (schedule.name, schedule.pipeline, schedule.expression) == ("weekly", "classification", "rate(7 days)")
    assert schedule.parameters == {**PARAMETERS, "DataVersion": EXECUTION_ID}
    assert schedule.state == "ENABLED"


def test_the_request_starts_the_pipeline_once_per_delivery(target: Target) -> None:
    """The target is StartPipelineExecution, its token the delivery's own id, under the scheduler's role."""
    weekly(target)
    schedule = target.boto.client("scheduler").get_schedule(Name="medloop-weekly")
    request = json.loads(schedule["Target"]["Input"])
    assert (schedule["Target"]["Arn"], schedule["Target"]["RoleArn"]) == (START, ROLE)
    assert request["ClientRequestToken"] == EXECUTION_ID
    assert {item["Name"] for item in request["PipelineParameters"]} == {"DataVersion", "Epochs", "InputData"}
    shape = target.boto.client("sagemaker").meta.service_model.operation_model("StartPipelineExecution").input_shape
    assert set(request) <= set(shape.members)


def test_a_known_guard_is_the_target(target: Target) -> None:
    """It computes DataVersion itself; what can't be delivered is kept; the list shows what it shows of any schedule."""
    guard = Guard("arn:aws:states:us-east-1:123456789012:stateMachine:medloop-retraining", QUEUE)
    create_schedule(target, "weekly", "classification", "rate(7 days)", "UTC", PARAMETERS, ROLE, guard)
    target_of_schedule = target.boto.client("scheduler").get_schedule(Name="medloop-weekly")["Target"]
    assert (target_of_schedule["Arn"], target_of_schedule["DeadLetterConfig"]) == (guard.arn, {"Arn": QUEUE})
    assert "ClientRequestToken" not in json.loads(target_of_schedule["Input"])
    (schedule,) = list_schedules(target)
    assert (schedule.pipeline, schedule.parameters, schedule.target) == ("classification", PARAMETERS, guard.arn)
    assert read_trigger(json.loads(target_of_schedule["Input"])).parameters == PARAMETERS


def test_a_name_is_taken_once(target: Target) -> None:
    """The second is refused with the fix, and changes nothing."""
    weekly(target)
    with pytest.raises(UserError, match="schedule weekly: exists already; delete it first"):
        weekly(target)
    assert len(list_schedules(target)) == 1


def test_a_deleted_schedule_is_gone(target: Target) -> None:
    """Deleting it again says that there is none."""
    weekly(target)
    delete_schedule(target, "weekly")
    assert list_schedules(target) == []
    with pytest.raises(UserError, match="schedule weekly: there is none"):
        delete_schedule(target, "weekly")


def test_schedules_of_others_are_not_listed(target: Target) -> None:
    """An account has more schedules than ours."""
    target.boto.client("scheduler").create_schedule(
        Name="backup", ScheduleExpression="rate(1 day)", FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": "arn:aws:lambda:us-east-1:123456789012:function:f", "RoleArn": ROLE},
    )  # fmt: skip
    assert list_schedules(target) == []


@pytest.mark.parametrize("expression", ["weekly", "rate(0 days)", "cron(0 3 * *)"])
def test_an_expression_that_is_none_is_refused_with_examples(tmp_path: Path, expression: str) -> None:
    """Here as on AWS; moto takes anything."""
    with pytest.raises(UserError, match=r"schedule odd: .*; such as 'rate\(7 days\)'"):
        create_schedule(open_target("local", tmp_path), "odd", "classification", expression, "UTC", {}, ROLE)
