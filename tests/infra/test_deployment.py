"""The stack in an account after its deployment; the other modules test its flows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from medloop.bundle import image_containers
from medloop.cloud.functions import RUNTIME
from tests.infra.conftest import EVERYTHING, WEEKLY
from tests.infra.flows import World, world


@pytest.fixture(scope="module")
def account(assembly: Path) -> Iterator[World]:
    """One account for all tests of this module: none changes anything."""
    with world(assembly) as made:
        yield made


def test_every_resource_of_the_template_stands(account: World, template: dict[str, Any]) -> None:
    """None was left out because moto knows no such kind."""
    expected = {logical: resource["Type"] for logical, resource in template["Resources"].items()}
    assert account.stack.kinds == expected
    assert len(expected) > 120


def test_outputs_are_those_of_what_stands(account: World) -> None:
    """The buckets, the roles and the function that `make deploy` prints are there under these names."""
    outputs = account.stack.outputs
    buckets = {bucket["Name"] for bucket in account.s3.list_buckets()["Buckets"]}
    assert {outputs["DataBucket"], outputs["MedloopBucket"]} <= buckets
    roles = {role["Arn"] for role in account.client("iam").list_roles()["Roles"]}
    assert {value for key, value in outputs.items() if key.endswith("RoleArn")} <= roles
    champion = account.client("lambda").get_function_configuration(FunctionName=outputs["ChampionFunctionArn"])
    assert (champion["FunctionName"], champion["Runtime"]) == ("medloop-champion", RUNTIME)
    assert champion["CodeSize"] > 10_000


def test_buckets_are_encrypted_by_the_stacks_keys(account: World) -> None:
    """Data and artefacts by a key each; access logs, which S3 itself writes, by S3's own."""
    keys = set(account.stack.by_type("AWS::KMS::Key").values())
    used = {}
    for logical, name in account.stack.by_type("AWS::S3::Bucket").items():
        (rule,) = account.s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
        used[logical] = rule["ApplyServerSideEncryptionByDefault"].get("KMSMasterKeyID", "S3's").rpartition("/")[2]
    by_name = {name: key for logical, key in used.items() for name in ("Data", "Artefacts", "Logs") if name in logical}
    assert by_name["Logs"] == "S3's"
    assert {by_name["Data"], by_name["Artefacts"]} < keys
    assert by_name["Data"] != by_name["Artefacts"]


def test_containers_have_repositories_and_tasks_have_groups(account: World) -> None:
    """What `make images` pushes to, and what pipelines register in."""
    repositories = account.client("ecr").describe_repositories()["repositories"]
    assert {repository["repositoryName"] for repository in repositories} == {
        f"medloop-{name}" for name in image_containers()
    }
    assert {repository["imageTagMutability"] for repository in repositories} == {"IMMUTABLE"}
    groups = account.sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"]
    names = {group["ModelPackageGroupName"] for group in groups}
    assert names == {"medloop-classification", "medloop-segmentation"}


def test_the_schedule_stands_with_its_parameters(account: World) -> None:
    """It starts the guard with what the settings say, and what can't be delivered goes to the queue."""
    schedule = account.client("scheduler").get_schedule(Name=account.stack.only("AWS::Scheduler::Schedule", "weekly"))
    assert (schedule["ScheduleExpression"], schedule["State"]) == (WEEKLY.expression, "ENABLED")
    target = schedule["Target"]
    parameters = {item["Name"]: item["Value"] for item in json.loads(target["Input"])["PipelineParameters"]}
    assert parameters == {"InputData": WEEKLY.data, **WEEKLY.parameters}
    assert target["Arn"] == account.stack.only("AWS::StepFunctions::StateMachine", "Guard")
    assert target["DeadLetterConfig"]["Arn"].endswith(":medloop-dead-letters")


def test_rules_reach_a_state_machine_each_and_the_queue_of_dead_letters(account: World) -> None:
    """By a role that events may assume."""
    rules = account.stack.by_type("AWS::Events::Rule").values()
    targets = [target for rule in rules for target in account.targets(rule)]
    checked = [json.loads(target["Input"])["check"] for target in account.targets("medloop-daily-check")]
    assert checked == ["medloop-classification", "medloop-segmentation"]
    assert {target["Arn"] for target in targets} == account.machines
    assert {target["DeadLetterConfig"]["Arn"].rpartition(":")[2] for target in targets} == {"medloop-dead-letters"}
    for target in targets:
        role = account.client("iam").get_role(RoleName=target["RoleArn"].rpartition("/")[2])["Role"]
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": "events.amazonaws.com"}


def test_topics_mail_whom_the_settings_name(account: World) -> None:
    """Approvers and operations."""
    subscriptions = account.client("sns").list_subscriptions()["Subscriptions"]
    mails = {
        (subscription["TopicArn"], subscription["Endpoint"])
        for subscription in subscriptions
        if subscription["Protocol"] == "email"
    }
    topics = [account.stack.only("AWS::SNS::Topic", name) for name in ("Approvers", "Operations")]
    people = [EVERYTHING.monitoring.approvers, EVERYTHING.monitoring.operations]
    assert mails == {(topic, mail) for topic, named in zip(topics, people, strict=True) for mail in named}


def test_alarms_stand_and_tell_operations(account: World) -> None:
    """Each of the template's, with an action that is a topic of the account."""
    alarms = account.cloudwatch.describe_alarms()["MetricAlarms"]
    assert {alarm["AlarmName"] for alarm in alarms} == set(account.stack.by_type("AWS::CloudWatch::Alarm").values())
    operations = account.stack.only("AWS::SNS::Topic", "Operations")
    assert [alarm["AlarmName"] for alarm in alarms if alarm["AlarmActions"] != [operations]] == []


def test_the_trail_records(account: World) -> None:
    """It is switched on, and sees both buckets' objects."""
    trail = account.stack.only("AWS::CloudTrail::Trail", "Trail")
    client = boto3.client("cloudtrail")
    assert client.get_trail_status(Name=trail)["IsLogging"] is True
    (selector,) = client.get_event_selectors(TrailName=trail)["EventSelectors"]
    watched = {value for resource in selector["DataResources"] for value in resource["Values"]}
    assert watched == {f"arn:aws:s3:::{account.stack.outputs[name]}/" for name in ("DataBucket", "MedloopBucket")}


def test_the_network_has_private_subnets_only(account: World) -> None:
    """No gateway stands in it, and nothing in it gets a public address."""
    network = account.client("ec2")
    vpc = account.stack.only("AWS::EC2::VPC", "Vpc")
    subnets = network.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
    assert len({subnet["AvailabilityZone"] for subnet in subnets}) == 2
    assert {subnet["MapPublicIpOnLaunch"] for subnet in subnets} == {False}
    gateways = network.describe_internet_gateways(Filters=[{"Name": "attachment.vpc-id", "Values": [vpc]}])
    assert gateways["InternetGateways"] == []
