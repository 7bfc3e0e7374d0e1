"""Open the account: credentials, region, and the deployed stack; refuse in one line if one is missing or another's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from infra.names import STACK_NAME
from infra.outputs import pipeline_settings, read_outputs
from medloop.bundle import Role
from medloop.cloud.sessions import BUCKET_VARIABLE, ROLE_VARIABLE
from medloop.cloud.target import Target
from medloop.errors import TargetError

_ROLE_OUTPUTS: dict[Role, str] = {
    "processing": "MedloopProcessingRoleArn",
    "training": "MedloopTrainingRoleArn",
    "evaluation": "MedloopEvaluationRoleArn",
    "inference": "MedloopInferenceRoleArn",
}


@dataclass(frozen=True)
class Stack:
    """The deployed stack.

    Args:
        outputs: Its outputs by name.
        resources: Physical ids by CloudFormation type and CDK path below the stack.
    """

    outputs: Mapping[str, str]
    resources: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def network(self) -> tuple[str, ...]:
        """Settings of pipelines for this account: key, isolation, subnets, security group (`--set`)."""
        return pipeline_settings(self.outputs)

    @property
    def vpc(self) -> dict[str, list[str]] | None:
        """The service's VpcConfig; None without a VPC."""
        if "Subnets" not in self.outputs:
            return None
        return {"SecurityGroupIds": [self.outputs["SecurityGroup"]], "Subnets": self.outputs["Subnets"].split(",")}


def open_account(
    session: boto3.Session, environment: Mapping[str, str], account: str | None = None
) -> tuple[Target, Stack]:
    """Open the account of the session's credentials.

    Args:
        session: Its credentials and region.
        environment: Variables of an earlier `infra.outputs`, which must be this account's if they are set.
        account: The expected account's number; None: any.

    Raises:
        TargetError: No credentials, no region, another account, or no stack.
    """
    if session.region_name is None:
        raise TargetError("no region; set AWS_DEFAULT_REGION")
    caller = _caller(session)
    expected = account or _account_of(environment.get(ROLE_VARIABLE, ""))
    if expected and expected != caller:
        source = "--account" if account else ROLE_VARIABLE
        raise TargetError(f"account {caller}: {source} names {expected}; set AWS_PROFILE to that account's profile")
    stack = _read_stack(session)
    outputs = stack.outputs
    if (bucket := environment.get(BUCKET_VARIABLE)) and bucket != outputs["MedloopBucket"]:
        raise TargetError(
            f"region {session.region_name}: {BUCKET_VARIABLE} is {bucket}, the stack's is {outputs['MedloopBucket']}; "
            'set AWS_DEFAULT_REGION, or run eval "$(.venv/bin/python -m infra.outputs)" again'
        )
    roles = {role: outputs[name] for role, name in _ROLE_OUTPUTS.items()}
    target = Target(
        "aws", session, outputs["MedloopBucket"], outputs["MedloopRoleArn"], caller, session.region_name, roles
    )
    return target, stack


def _account_of(arn: str) -> str:
    return arn.split(":")[4] if arn.count(":") > 4 else ""


def _caller(session: boto3.Session) -> str:
    try:
        return str(session.client("sts").get_caller_identity()["Account"])
    except (BotoCoreError, ClientError) as error:
        raise TargetError(f"no access to the account ({error}); sign in first, or set AWS_PROFILE") from None


def _read_stack(session: boto3.Session) -> Stack:
    client = session.client("cloudformation")
    outputs = read_outputs(client)
    if "MedloopBucket" not in outputs:
        raise TargetError(f"stack {STACK_NAME} has no outputs yet; wait until it is deployed: make deploy")
    try:
        template: Any = client.get_template(StackName=STACK_NAME)["TemplateBody"]
        pages = client.get_paginator("list_stack_resources").paginate(StackName=STACK_NAME)
        ids = {
            item["LogicalResourceId"]: item.get("PhysicalResourceId", "")
            for page in pages
            for item in page["StackResourceSummaries"]
        }
    except (BotoCoreError, ClientError) as error:
        raise TargetError(f"stack {STACK_NAME} can't be read ({error}); use an administrator's credentials") from None
    paths = {
        (resource["Type"], _path(resource)): ids[logical]
        for logical, resource in template["Resources"].items()
        if logical in ids
    }
    return Stack(outputs, paths)


def _path(resource: Mapping[str, Any]) -> str:
    """Return a resource's CDK path below the stack."""
    path = str(resource.get("Metadata", {}).get("aws:cdk:path", ""))
    return path.partition("/")[2].removesuffix("/Resource")
