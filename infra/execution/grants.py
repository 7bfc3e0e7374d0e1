"""Statements that several roles share, each for one purpose; the sid says which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.network.vpc import Network

PULLING = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")


def statement(
    sid: str, actions: Sequence[str], resources: Sequence[str], conditions: Mapping[str, Any] | None = None
) -> iam.PolicyStatement:
    """An allowing statement.

    Args:
        sid: What it is for.
        actions: IAM actions, spelled out.
        resources: ARNs.
        conditions: IAM conditions.
    """
    return iam.PolicyStatement(
        sid=sid, actions=list(actions), resources=list(resources), conditions=dict(conditions or {})
    )


def sagemaker_arn(scope: Construct, kind: str, name: str) -> str:
    """The ARN of something of SageMaker's in this account and region."""
    return cdk.Stack.of(scope).format_arn(service="sagemaker", resource=kind, resource_name=name)


def signed_in(people: Sequence[str]) -> iam.CompositePrincipal:
    """People who signed in with a second factor; without ARNs, whom the account's own policies let assume the role."""
    principals = [iam.ArnPrincipal(arn) for arn in people] or [iam.AccountRootPrincipal()]
    second_factor = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
    return iam.CompositePrincipal(*(iam.PrincipalWithConditions(who, second_factor) for who in principals))


def inside_vpc(subnets: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
    """The condition that jobs run only in these subnets and security groups; none without a VPC."""
    if not groups:
        return {}
    return {
        "ForAllValues:StringEquals": {
            "sagemaker:VpcSubnets": list(subnets),
            "sagemaker:VpcSecurityGroupIds": list(groups),
        },
        "Null": {"sagemaker:VpcSubnets": "false", "sagemaker:VpcSecurityGroupIds": "false"},
    }


def read_objects(sid: str, bucket: s3.IBucket, *prefixes: str) -> list[iam.PolicyStatement]:
    """Read objects whose keys match, and list them by prefix (which S3 answers for absent ones, too)."""
    return [
        statement(sid, ["s3:GetObject"], [bucket.arn_for_objects(prefix) for prefix in prefixes]),
        statement(
            f"{sid}List", ["s3:ListBucket"], [bucket.bucket_arn], {"StringLike": {"s3:prefix": _listings(prefixes)}}
        ),
    ]


def write_objects(sid: str, bucket: s3.IBucket, *prefixes: str) -> iam.PolicyStatement:
    """Store objects whose keys match; large ones come in parts. Nothing is ever deleted."""
    return statement(
        sid,
        ["s3:PutObject", "s3:AbortMultipartUpload"],
        [bucket.arn_for_objects(prefix) for prefix in prefixes],
    )


def use_key(sid: str, key: kms.IKey, *, write: bool, machines: bool = False) -> list[iam.PolicyStatement]:
    """Read, or write too, what is encrypted with a key.

    Args:
        sid: What for.
        key: The key.
        write: New objects too.
        machines: Volumes of SageMaker's machines too: EC2 attaches them by a grant that the service makes.
    """
    actions = ["kms:Decrypt", "kms:DescribeKey", *(["kms:Encrypt", "kms:GenerateDataKey"] if write else [])]
    use = statement(sid, actions, [key.key_arn])
    return [use, lend_key(f"{sid}Volumes", key)] if machines else [use]


def lend_key(sid: str, key: kms.IKey) -> iam.PolicyStatement:
    """Let only an AWS service use a key for the volumes of instances."""
    return statement(sid, ["kms:CreateGrant"], [key.key_arn], {"Bool": {"kms:GrantIsForAWSResource": "true"}})


def run_as_job(scope: Construct, network: Network, repositories: Sequence[str]) -> list[iam.PolicyStatement]:
    """What any job needs of its role: its image, its log, its metrics, and its network interfaces.

    Args:
        scope: For the account and region.
        network: Where jobs run.
        repositories: ARNs of the repositories of its images.
    """
    stack = cdk.Stack.of(scope)
    groups = f"arn:{stack.partition}:logs:{stack.region}:{stack.account}:log-group:/aws/sagemaker/*"
    return [
        # The service knows no narrower resource: a token for the registry, not for any image.
        statement("LogInToRegistry", ["ecr:GetAuthorizationToken"], ["*"]),
        statement("PullImages", PULLING, repositories),
        statement(
            "WriteLogs",
            ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
            [groups],
        ),
        statement(
            "WriteMetrics",
            ["cloudwatch:PutMetricData"],
            ["*"],
            {"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*", "AWS/SageMaker*"]}},
        ),
        *_interfaces(scope, network),
    ]


def _interfaces(scope: Construct, network: Network) -> list[iam.PolicyStatement]:
    """Network interfaces on the subnets and with the group of the VPC, and no others."""
    if network.vpc is None or network.security_group is None:
        return []
    stack = cdk.Stack.of(scope)
    ec2 = f"arn:{stack.partition}:ec2:{stack.region}:{stack.account}"
    places = [f"{ec2}:subnet/{subnet}" for subnet in network.subnet_ids]
    group = f"{ec2}:security-group/{network.security_group.security_group_id}"
    interfaces = f"{ec2}:network-interface/*"
    in_subnets = {"ArnEquals": {"ec2:Subnet": places}}
    describing = [
        "ec2:DescribeDhcpOptions",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcs",
    ]
    return [
        statement("CreateInterfaces", ["ec2:CreateNetworkInterface"], [*places, group, interfaces]),
        statement(
            "LendInterfaces",
            ["ec2:CreateNetworkInterfacePermission", "ec2:DeleteNetworkInterface"],
            [interfaces],
            in_subnets,
        ),
        statement(
            "ReturnInterfaces",
            ["ec2:DeleteNetworkInterfacePermission"],
            [interfaces],
            in_subnets,
        ),
        statement("SeeNetwork", describing, ["*"]),
    ]


def _listings(prefixes: Sequence[str]) -> list[str]:
    """The s3:prefix values by which keys that match are found: each prefix, with and without its last slash."""
    bare = [prefix.removesuffix("*") for prefix in prefixes]
    return sorted({value for prefix in bare for value in (f"{prefix}*", prefix.rstrip("/"))})
