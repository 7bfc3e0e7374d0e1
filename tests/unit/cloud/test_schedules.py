"""Schedules, by the same calls on this machine and on moto's account."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from infra.scheduling.guard import read_trigger
from medloop.cloud.schedules import SCHEDULED_TIME, START, create_schedule, delete_schedule, list_schedules
from medloop.cloud.sessions import open_target
from medloop.cloud.target import Target
from medloop.definition.requests import operation_problems
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
    assert schedule.parameters == {**PARAMETERS, "DataVersion": SCHEDULED_TIME}
    assert schedule.state == "ENABLED"


def test_the_request_starts_the_pipeline_once_per_delivery(target: Target) -> None:
    """The target is StartPipelineExecution, its token the delivery's own id, under the scheduler's role."""
    weekly(target)
    schedule = target.boto.client("scheduler").get_schedule(Name="medloop-weekly")
    request = json.loads(schedule["Target"]["Input"])
    assert (schedule["Target"]["Arn"], schedule["Target"]["RoleArn"]) == (f"arn:aws:{START}", ROLE)
    assert SCHEDULED_TIME in request["ClientRequestToken"]
    assert "<aws.scheduler.execution-id>" not in schedule["Target"]["Input"]
    assert {item["Name"] for item in request["PipelineParameters"]} == {"DataVersion", "Epochs", "InputData"}
    at_start = json.loads(schedule["Target"]["Input"].replace(SCHEDULED_TIME, "2026-03-22T18:59:43Z"))
    assert list(operation_problems("StartPipelineExecution", at_start)) == []
    version = next(item["Value"] for item in at_start["PipelineParameters"] if item["Name"] == "DataVersion")
    metadata = {"CustomerMetadataProperties": {"data_version": version}}
    assert list(operation_problems("CreateModelPackage", metadata)) == []


@pytest.mark.parametrize(
    ("request_text", "message"),
    [
        ('{"PipelineName": "p", "ClientRequestToken": "<aws.scheduler.execution-id>"}', "16 characters is less than"),
        ('{"PipelineName": "p", "ClientRequestToken": "' + "x" * 32 + '", "Speed": 1}', "Speed: the service knows no"),
        ('{"PipelineName": "p", ', "is no JSON"),
    ],
)
def test_a_start_that_would_always_fail_is_refused(tmp_path: Path, request_text: str, message: str) -> None:
    """Locally, where the request is checked with examples of what EventBridge fills in."""
    target = {"Arn": f"arn:aws:{START}", "RoleArn": ROLE, "Input": request_text}
    with pytest.raises(ClientError, match=message):
        open_target("local", tmp_path).boto.client("scheduler").create_schedule(
            Name="odd", ScheduleExpression="rate(1 day)", FlexibleTimeWindow={"Mode": "OFF"}, Target=target
        )


def test_two_schedules_at_one_time_both_start(target: Target) -> None:
    """Their tokens differ: the service takes an equal token for the same start."""
    weekly(target)
    weekly(target, "other")
    inputs = [
        json.loads(target.boto.client("scheduler").get_schedule(Name=f"medloop-{name}")["Target"]["Input"])
        for name in ("weekly", "other")
    ]
    assert inputs[0]["ClientRequestToken"] != inputs[1]["ClientRequestToken"]


def test_what_can_t_be_delivered_is_kept_without_a_guard_too(target: Target) -> None:
    """In the queue that the user names."""
    create_schedule(target, "w", "classification", "rate(7 days)", "UTC", PARAMETERS, ROLE, dead_letters=QUEUE)
    created = target.boto.client("scheduler").get_schedule(Name="medloop-w")["Target"]
    assert created["DeadLetterConfig"] == {"Arn": QUEUE}


def test_a_known_guard_is_the_target(target: Target) -> None:
    """It computes DataVersion itself; what can't be delivered is kept; the list shows what it shows of any schedule."""
    guard = "arn:aws:states:us-east-1:123456789012:stateMachine:medloop-retraining"
    stack = {"guard": guard, "dead_letters": QUEUE}
    create_schedule(target, "weekly", "classification", "rate(7 days)", "UTC", PARAMETERS, ROLE, **stack)
    target_of_schedule = target.boto.client("scheduler").get_schedule(Name="medloop-weekly")["Target"]
    assert (target_of_schedule["Arn"], target_of_schedule["DeadLetterConfig"]) == (guard, {"Arn": QUEUE})
    assert "ClientRequestToken" not in json.loads(target_of_schedule["Input"])
    (schedule,) = list_schedules(target)
    assert (schedule.pipeline, schedule.parameters, schedule.target) == ("classification", PARAMETERS, guard)
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
