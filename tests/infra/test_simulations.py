"""Who may do what: simulations.yaml over the synthesised policies, and the rules for every role."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.app import make_app
from infra.execution.people import BOUND, NO_VALUE
from infra.images.repositories import BASE_VERSION
from infra.names import DELIVERY_ROLE_PATHS, SIMULATIONS, STACK_NAME
from infra.names import ROLE_PATHS as ROLES
from infra.settings import AccessSettings, NetworkSettings, Settings
from medloop.bundle import load_container
from medloop.cloud.base_images import base_image_uri
from medloop.definition.requests import operation_problems, service_model
from tests.infra.actions import exists
from tests.infra.iam import Request, as_list, decide, matches
from tests.infra.policies import Account
from tests.infra.template import ACCOUNT, REGION

TABLE = yaml.safe_load(SIMULATIONS.read_text(encoding="utf-8"))
ROWS = [(who, verb, row) for who, rules in TABLE.items() for verb, rows in rules.items() for row in rows]
ALL_PARTS = {"vpc", "server", "connections"}
"""The parts of the stack that the fixtures synthesise, as the table names them."""
STACKS = {
    "default": (Settings(), {"vpc", "isolation"}),
    "no VPC": (Settings(network=NetworkSettings(vpc=False)), {"isolation"}),
    "training connects": (Settings(access=AccessSettings(training_connects=True)), {"vpc", "connections"}),
}


def rows_for(parts: set[str]) -> list[tuple[str, str, dict[str, Any]]]:
    """The rows that hold in a stack with these parts."""
    return [row for row in ROWS if row[2].get("needs") in (None, *parts)]


def arn(account: Account, text: str) -> str:
    """The ARN that a row's short form means."""
    bucket, slash, key = text.partition("/")
    if bucket in ("data", "artefacts", "delivery"):
        return account.arn(account.find("AWS::S3::Bucket", f"Storage/{bucket.title()}")) + slash + key
    kind, _, name = text.partition(":")
    if kind == "key":
        return account.arn(account.find("AWS::KMS::Key", f"Keys/{name.title()}"))
    if kind == "role":
        return account.role({**ROLES, **DELIVERY_ROLE_PATHS}[name])
    if kind == "repository":
        return account.arn(account.find("AWS::ECR::Repository", f"Images/{name.title()}"))
    if text == "*" or kind == "arn":
        return text
    if kind in ("iam", "s3"):
        return f"arn:aws:{text}" if kind == "s3" else f"arn:aws:iam::{ACCOUNT}:{name.lstrip(':')}"
    return f"arn:aws:{kind}:{REGION}:{ACCOUNT}:{name}"


def context(account: Account, when: dict[str, Any]) -> dict[str, Any]:
    """A row's condition keys, with the stack's own values filled in."""
    vpc = {name: account.properties(name) for name in account.by_type("AWS::EC2::Subnet")}
    own_context = {
        "$subnets": list(vpc),
        "$group": [f"{account.find('AWS::EC2::SecurityGroup', 'Network/Jobs')}.GroupId"],
        "$champion": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:medloop-champion",
    }
    return {key: own_context.get(value, value) if isinstance(value, str) else value for key, value in when.items()}


@pytest.mark.parametrize(
    ("who", "verb", "row"),
    [
        pytest.param(who, verb, row, id=f"{who} {verb} {row['ask']} {row.get('when', '')}".strip())
        for who, verb, row in rows_for(ALL_PARTS)
    ],
)
def test_simulation(account: Account, who: str, verb: str, row: dict[str, Any]) -> None:
    """A row of the table."""
    action, _, resource = row["ask"].partition(" ")
    when = context(account, row.get("when", {}))
    decision = account.simulate(account.role(ROLES[who]), action, arn(account, resource), when)
    assert (decision == "allowed") == (verb == "may"), f"{decision}; {row.get('why', '')}"


@pytest.mark.slow
@pytest.mark.parametrize("name", STACKS)
def test_the_table_holds_in_smaller_stacks(tmp_path: Path, name: str) -> None:
    """Except rows that need what a stack doesn't have; training is isolated unless it is to open connections."""
    settings, parts = STACKS[name]
    make_app(settings, outdir=str(tmp_path), validate=False).synth()
    account = Account(json.loads((tmp_path / f"{STACK_NAME}.template.json").read_text(encoding="utf-8")))
    wrong = []
    for who, verb, row in rows_for(parts):
        if who == "mlflow":
            continue
        action, _, resource = row["ask"].partition(" ")
        vpc, keys = "vpc" in parts, row.get("when", {})
        when = {key: value for key, value in keys.items() if vpc or value not in ("$subnets", "$group")}
        decision = account.simulate(
            account.role(ROLES[who]), action, arn(account, resource), context(account, when) if vpc else when
        )
        if (decision == "allowed") != (verb == "may"):
            wrong.append((who, verb, row))
    assert wrong == []


def bucket(account: Account, name: str) -> str:
    """A bucket's ARN."""
    return account.arn(account.find("AWS::S3::Bucket", f"Storage/{name}"))


@pytest.mark.parametrize(
    ("when", "decision"),
    [
        ({}, "allowed"),
        ({"aws:SecureTransport": "false"}, "explicitly denied"),
        ({"s3:TlsVersion": "1.1"}, "explicitly denied"),
        ({"s3:x-amz-server-side-encryption": "AES256"}, "explicitly denied"),
        ({"s3:x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:us-east-1:1:key/other"}, "explicitly denied"),
        ({"s3:x-amz-server-side-encryption": "aws:kms"}, "explicitly denied"),
        ({"s3:x-amz-server-side-encryption-aws-kms-key-id": "$key"}, "allowed"),
        (
            {
                "s3:x-amz-server-side-encryption": "aws:kms",
                "s3:x-amz-server-side-encryption-aws-kms-key-id": "$key",
            },
            "allowed",
        ),
    ],
)
def test_the_buckets_policy_binds_even_who_may_write(account: Account, when: dict[str, str], decision: str) -> None:
    """Without TLS, or under another key (S3's own, or the account's for S3), nothing is stored."""
    key = account.arn(account.find("AWS::KMS::Key", "Keys/Artefacts"))
    object_arn = f"{bucket(account, 'Artefacts')}/executions/s/e/Train/model.tar.gz"
    context = {name: key if value == "$key" else value for name, value in when.items()}
    assert account.simulate(account.role(ROLES["training"]), "s3:PutObject", object_arn, context) == decision


@pytest.mark.parametrize(
    ("endpoint", "action", "resource", "when", "decision"),
    [
        ("Network/Vpc/S3", "s3:PutObject", "own", {}, "allowed"),
        ("Network/Vpc/S3", "s3:PutObject", "foreign", {"aws:ResourceAccount": "999999999999"}, "denied"),
        ("Network/Vpc/S3", "s3:DeleteObject", "own", {}, "denied"),
        ("Network/Logs", "logs:PutLogEvents", "*", {}, "allowed"),
        ("Network/Sts", "sts:AssumeRole", "*", {}, "denied"),
        ("Network/Logs", "logs:PutLogEvents", "*", {"aws:PrincipalAccount": "999999999999"}, "denied"),
        ("Network/SagemakerApi", "sagemaker:DescribeModelPackage", "*", {}, "allowed"),
        ("Network/SagemakerApi", "sagemaker:CreateTrainingJob", "*", {}, "denied"),
        ("Network/Kms", "kms:ScheduleKeyDeletion", "*", {}, "denied"),
        ("Network/EcrApi", "ecr:PutImage", "*", {}, "denied"),
    ],
)
def test_endpoints_let_nothing_else_pass(
    account: Account, endpoint: str, action: str, resource: str, when: dict[str, str], decision: str
) -> None:
    """Not even with rights for everything, such as foreign credentials that were smuggled in."""
    sources = {"own": f"{bucket(account, 'Artefacts')}/a", "foreign": "arn:aws:s3:::bucket-of-others/a"}
    anything = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
    context = {"aws:PrincipalAccount": ACCOUNT, "aws:ResourceAccount": ACCOUNT, **when}
    request = Request("arn:aws:iam::1:role/any", action, sources.get(resource, resource), context)
    assert decide(request, anything, boundaries=[account.endpoint_policy(endpoint)]) == decision


BY_ENDPOINT = {
    "sagemaker": "Network/SagemakerApi",
    "s3": "Network/Vpc/S3",
    "logs": "Network/Logs",
    "cloudwatch": "Network/Monitoring",
    "sagemaker-mlflow": "Network/Experiments",
}
"""Services that code in the VPC calls itself; SageMaker or Lambda calls the others for it."""


@pytest.mark.parametrize(
    "role", ["processing", "training", "evaluation", "inference", "champion", "guard-function", "planner"]
)
def test_what_a_role_in_the_vpc_may_do_passes_the_endpoints(account: Account, role: str) -> None:
    """A right that no endpoint lets pass is none: the call would wait for its end of time."""
    arn = account.role(ROLES[role])
    allowed = [s for s in account.statements_of(arn) if s["Effect"] == "Allow"]
    actions = {action for s in allowed for action in as_list(s["Action"]) if action.partition(":")[0] in BY_ENDPOINT}
    assert actions
    context = {"aws:PrincipalAccount": ACCOUNT, "aws:ResourceAccount": ACCOUNT}
    anything = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
    stuck = []
    for action in sorted(actions):
        policy = account.endpoint_policy(BY_ENDPOINT[action.partition(":")[0]])
        if decide(Request(arn, action, "*", context), anything, boundaries=[policy]) != "allowed":
            stuck.append(action)
    assert stuck == []


@pytest.mark.parametrize(("trail", "decision"), [("medloop", "allowed"), ("others", "explicitly denied")])
def test_the_trails_bucket_takes_this_trail_alone(account: Account, trail: str, decision: str) -> None:
    """Of no other account, and of no other trail."""
    object_arn = f"{bucket(account, 'Logs')}/trail/AWSLogs/{ACCOUNT}/CloudTrail/a.json.gz"
    when = {
        "aws:SecureTransport": "true",
        "s3:TlsVersion": "1.3",
        "s3:x-amz-acl": "bucket-owner-full-control",
        "aws:SourceArn": f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/{trail}",
        "aws:SourceAccount": ACCOUNT,
    }
    request = Request("cloudtrail.amazonaws.com", "s3:PutObject", object_arn, when)
    assert decide(request, [], account.resource_policy(object_arn)) == decision


PERSON = f"arn:aws:iam::{ACCOUNT}:user/doctor"
MACHINE = {
    "aws:SourceAccount": ACCOUNT,
    "aws:SourceArn": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:medloop-approval",
}


@pytest.mark.parametrize(
    ("role", "who", "when", "decision"),
    [
        ("approver", PERSON, {"aws:MultiFactorAuthPresent": "true"}, "allowed"),
        ("approver", PERSON, {"aws:MultiFactorAuthPresent": "false"}, "denied"),
        ("approver", PERSON, {}, "denied"),
        ("engineer", PERSON, {"aws:MultiFactorAuthPresent": "true"}, "allowed"),
        ("engineer", PERSON, {}, "denied"),
        ("publisher", PERSON, {"aws:MultiFactorAuthPresent": "true"}, "allowed"),
        ("publisher", PERSON, {}, "denied"),
        ("publisher", "sagemaker.amazonaws.com", {"aws:SourceAccount": ACCOUNT}, "denied"),
        ("engineer", "sagemaker.amazonaws.com", {"aws:SourceAccount": ACCOUNT}, "denied"),
        ("approver", "arn:aws:iam::999999999999:user/x", {"aws:MultiFactorAuthPresent": "true"}, "denied"),
        ("approver", "sagemaker.amazonaws.com", {"aws:SourceAccount": ACCOUNT}, "denied"),
        ("pipeline", "sagemaker.amazonaws.com", {"aws:SourceAccount": ACCOUNT}, "allowed"),
        ("pipeline", "sagemaker.amazonaws.com", {"aws:SourceAccount": "999999999999"}, "denied"),
        # AWS documents the account's key for training jobs, and not for pipelines, processing, tuning and models.
        ("pipeline", "sagemaker.amazonaws.com", {}, "allowed"),
        ("evaluation", "sagemaker.amazonaws.com", {}, "allowed"),
        ("inference", "sagemaker.amazonaws.com", {}, "allowed"),
        ("mlflow", "sagemaker.amazonaws.com", {}, "allowed"),
        ("mlflow", "sagemaker.amazonaws.com", {"aws:SourceAccount": "999999999999"}, "denied"),
        ("pipeline", PERSON, {}, "denied"),
        ("training", "sagemaker.amazonaws.com", {"aws:SourceAccount": ACCOUNT}, "allowed"),
        ("training", "ec2.amazonaws.com", {"aws:SourceAccount": ACCOUNT}, "denied"),
        ("processing", PERSON, {}, "denied"),
        ("champion", "lambda.amazonaws.com", {}, "allowed"),
        ("champion", "sagemaker.amazonaws.com", {"aws:SourceAccount": ACCOUNT}, "denied"),
        ("builder", "codebuild.amazonaws.com", {"aws:SourceAccount": ACCOUNT}, "allowed"),
        ("builder", "codebuild.amazonaws.com", {"aws:SourceAccount": "999999999999"}, "denied"),
        ("scheduler", "scheduler.amazonaws.com", {"aws:SourceAccount": ACCOUNT}, "allowed"),
        ("deployer", "states.amazonaws.com", MACHINE, "allowed"),
        ("deployer", "states.amazonaws.com", {**MACHINE, "aws:SourceAccount": "999999999999"}, "denied"),
        ("deployer", PERSON, {}, "denied"),
    ],
)
def test_who_may_assume_a_role(account: Account, role: str, who: str, when: dict[str, str], decision: str) -> None:
    """Services of this account, each its own; people with a second factor, the approver's alone."""
    assert account.assume(account.role(ROLES[role]), who, when) == decision


@pytest.mark.parametrize("source_account", [ACCOUNT, "999999999999"])
def test_services_assume_roles_for_this_account_alone(account: Account, source_account: str) -> None:
    """Every role of the stack that a service assumes names the account, except roles that services can't confuse."""
    trusting = {
        # Who makes a function must be allowed to pass its role, which works in its own account only.
        "lambda.amazonaws.com",
        # The trail's, which can write to the trail's log and nothing else; the service gives no account.
        "cloudtrail.amazonaws.com",
    }
    open_to = set()
    for role in map(account.arn, account.by_type("AWS::IAM::Role")):
        for service in (as_list(s["Principal"].get("Service", [])) for s in account.trust_of(role)):
            when = {"aws:SourceAccount": source_account, "aws:SourceArn": MACHINE["aws:SourceArn"]}
            open_to |= {name for name in service if account.assume(role, name, when) == "allowed"}
    services = {"sagemaker", "states", "events", "scheduler", "codebuild", "vpc-flow-logs"}
    assert open_to == trusting | (
        {f"{name}.amazonaws.com" for name in services} if source_account == ACCOUNT else set()
    )


@pytest.mark.parametrize(
    ("action", "who"),
    [
        ("sagemaker:UpdateModelPackage", {"approver"}),
        ("sagemaker:CreateModelPackage", {"pipeline"}),
        ("sagemaker:DeleteModelPackage", set()),
        ("sagemaker:CreateTrainingJob", {"pipeline"}),
        ("sagemaker:StartPipelineExecution", {"guard", "engineer"}),
        ("sagemaker:CreatePipeline", {"publisher"}),
        ("sagemaker:UpdatePipeline", {"publisher"}),
        ("sagemaker:DeletePipeline", set()),
        ("sagemaker:CreateEndpoint", {"deployer"}),
        ("sagemaker:UpdateEndpoint", {"deployer"}),
        ("sagemaker:InvokeEndpoint", set()),
        ("iam:PassRole", {"pipeline", "deployer", "publisher"}),
        ("sagemaker:RetryPipelineExecution", {"engineer"}),
        ("sagemaker:UpdatePipelineExecution", set()),
        ("sagemaker:SendPipelineExecutionStepSuccess", set()),
        ("sagemaker:CreateProcessingJob", {"pipeline"}),
        ("scheduler:CreateSchedule", set()),
        ("iam:CreateRole", set()),
        ("iam:PutRolePolicy", set()),
        ("ecr:PutImage", {"builder"}),
        ("s3:DeleteObject", set()),
        ("s3:PutBucketPolicy", set()),
        ("kms:PutKeyPolicy", set()),
        ("kms:ScheduleKeyDeletion", set()),
        ("ec2:AuthorizeSecurityGroupEgress", set()),
        ("ec2:CreateInternetGateway", set()),
        ("lambda:InvokeFunction", {"pipeline", "guard", "deployer"}),
        ("lambda:UpdateFunctionCode", set()),
        ("logs:DeleteLogGroup", set()),
        ("cloudtrail:StopLogging", set()),
    ],
)
def test_who_alone_may_do_what(account: Account, action: str, who: set[str]) -> None:
    """All roles in the stack are compared, for any resource and condition."""
    names = {account.role(path): name for name, path in ROLES.items()}
    principals = set()
    for role in map(account.arn, account.by_type("AWS::IAM::Role")):
        patterns = [
            pattern
            for statement in account.statements_of(role)
            if statement["Effect"] == "Allow"
            for pattern in as_list(statement["Action"])
        ]
        if any(matches(pattern.lower(), action.lower()) for pattern in patterns):
            principals.add(names.get(role, role))
    assert exists(action)
    assert principals == who


@pytest.mark.parametrize("role", ["processing", "training", "evaluation", "inference"])
def test_a_job_in_the_vpc_is_created(account: Account, role: str) -> None:
    """SageMaker tries these nine actions with the job's role, on no resource and without a condition's key."""
    verbs = [f"{verb}NetworkInterface{kind}" for verb in ("Create", "Delete") for kind in ("", "Permission")]
    verbs += [f"Describe{kind}" for kind in ("DhcpOptions", "NetworkInterfaces", "SecurityGroups", "Subnets", "Vpcs")]
    decisions = {verb: account.simulate(account.role(ROLES[role]), f"ec2:{verb}", "*") for verb in verbs}
    assert decisions == dict.fromkeys(verbs, "allowed")


def test_base_images_are_those_of_the_region(template: dict[str, Any]) -> None:
    """AWS publishes them in another account in many regions; each role names that of the stack's region."""
    account_id, domain = "692866216735", "dkr.ecr.eu-south-1.amazonaws.com"
    assert base_image_uri(load_container("classify").base, "eu-south-1").startswith(f"{account_id}.{domain}/pytorch:")
    (regions,) = template["Mappings"].values()
    assert regions["eu-south-1"] == {"account": account_id}
    assert regions["eu-west-1"] == {"account": "763104351884"}
    assert all(f"pytorch:{BASE_VERSION}-" in load_container(name).base for name in ("classify", "segment"))


def test_raw_data_are_read_by_the_split_alone(account: Account) -> None:
    """By no other role of the stack, in the bucket and by the key."""
    object_arn = f"{bucket(account, 'Data')}/raw/segmentation/jan/s1/img.nii.gz"
    key = account.arn(account.find("AWS::KMS::Key", "Keys/Data"))
    for action, resource in (("s3:GetObject", object_arn), ("kms:Decrypt", key)):
        roles = [account.arn(name) for name in account.by_type("AWS::IAM::Role")]
        assert [role for role in roles if account.simulate(role, action, resource) == "allowed"] == [
            account.role(ROLES["processing"])
        ]


def test_every_row_asks_what_exists() -> None:
    """A misspelled action would be denied for ever."""
    actions = {row["ask"].partition(" ")[0] for rules in TABLE.values() for rows in rules.values() for row in rows}
    assert [action for action in sorted(actions) if not exists(action)] == []


def test_every_role_of_the_table_is_tried_both_ways() -> None:
    """What a role may, and what it may not."""
    assert set(TABLE) == set(ROLES)
    assert all({"may", "may not"} == set(rules) for rules in TABLE.values())
    assert len(ROWS) >= 40
    assert {row["needs"] for _, _, row in ROWS if "needs" in row} == ALL_PARTS | {"isolation"}


@pytest.mark.parametrize("name", BOUND)
@pytest.mark.parametrize(
    ("sent", "current", "decision"),
    [
        ("a", "a", "allowed"),
        ("a", "b", "denied"),
        ("a", None, "denied"),
        (None, "b", "allowed"),
    ],
)
def test_an_entry_that_binds_a_version_stays(
    account: Account, name: str, sent: str | None, current: str | None, decision: str
) -> None:
    """Or isn't sent; without its current value it is denied."""
    key = f"CustomerMetadataProperties/{name}"
    values = {f"sagemaker:{key}": sent, f"sagemaker:Current{key}": current}
    when = {key: value for key, value in values.items() if value is not None}
    version = arn(account, "sagemaker:model-package/medloop-segmentation/7")
    when |= {"sagemaker:ModelApprovalStatus": "Approved"}
    role = account.role(ROLES["approver"])
    assert account.simulate(role, "sagemaker:UpdateModelPackage", version, when) == decision


def test_no_entry_has_the_value_that_stands_for_none() -> None:
    """The service's set of characters lacks its parentheses, so that no request can match it."""
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/g/1"
    for value, is_refused in ((NO_VALUE, True), ("none", False)):
        request = {"ModelPackageArn": arn, "CustomerMetadataProperties": {"image": value}}
        assert bool(list(operation_problems("UpdateModelPackage", request, service_model()))) == is_refused
