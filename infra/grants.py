"""Roles and policy statements: each statement has one purpose, which its sid names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

PULLING = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
OWN_ACCOUNT = {"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
"""The service acts on behalf of this account, and of no other that it might be talked into."""
OWN_ACCOUNT_IF_NAMED = {"StringEqualsIfExists": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
"""The same for the trust in a service, which doesn't always name the account.

AWS documents the key for training jobs and in general, not for pipelines, processing, tuning and models. Where it is
absent, StringEquals would deny the service its role. iam:PassRole decides who can hand these roles to a service, and
both are in this account.
"""
TO_SAGEMAKER = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
ANY_PRINCIPAL = (iam.AnyPrincipal(),)


def statement(
    sid: str,
    actions: Sequence[str],
    resources: Sequence[str] = ("*",),
    conditions: Mapping[str, Any] | None = None,
    *,
    principals: Sequence[iam.IPrincipal] = (),
    deny: bool = False,
) -> iam.PolicyStatement:
    """An allowing statement, or a denying one.

    Args:
        sid: Its purpose.
        actions: IAM actions, spelled out.
        resources: ARNs; in a key's policy "*" is the key itself; none in a repository's.
        conditions: IAM conditions.
        principals: Callers, in the policy of a resource.
        deny: Deny instead.
    """
    return iam.PolicyStatement(
        sid=sid,
        effect=iam.Effect.DENY if deny else iam.Effect.ALLOW,
        principals=list(principals),
        actions=list(actions),
        resources=list(resources),
        conditions=dict(conditions or {}),
    )


def allow(grantee: iam.IGrantable, *statements: iam.PolicyStatement) -> None:
    """Add statements to the policy of a role, or of a state machine's."""
    for each in statements:
        grantee.grant_principal.add_to_principal_policy(each)


def service(name: str, conditions: Mapping[str, Any] | None = None) -> iam.ServicePrincipal:
    """An AWS service by its name in `<name>.amazonaws.com`."""
    return iam.ServicePrincipal(f"{name}.amazonaws.com", conditions=conditions)


def make_role(
    scope: Construct,
    assumed_by: iam.IPrincipal | str,
    description: str,
    statements: Iterable[iam.PolicyStatement] = (),
    construct_id: str = "Role",
) -> iam.Role:
    """Make a role with a policy of these statements.

    Args:
        scope: CDK's parent.
        assumed_by: A principal, or the name of a service that assumes the role for this account.
        description: The role's description.
        statements: The policy.
        construct_id: CDK's id.
    """
    principal = service(assumed_by, OWN_ACCOUNT_IF_NAMED) if isinstance(assumed_by, str) else assumed_by
    role = iam.Role(scope, construct_id, assumed_by=principal, description=description)
    allow(role, *statements)
    return role


def arn(service_name: str, resource: str, account: str = Aws.ACCOUNT_ID) -> str:
    """The ARN of a resource in this region, and in this account or another."""
    return f"arn:{Aws.PARTITION}:{service_name}:{Aws.REGION}:{account}:{resource}"


def sagemaker_arns(kind: str, names: Iterable[str], account: str = Aws.ACCOUNT_ID) -> list[str]:
    """ARNs of SageMaker's resources of a kind in this region, and in this account or another."""
    return [arn("sagemaker", f"{kind}/{name}", account) for name in names]


def versions_of(groups: Iterable[str], account: str = Aws.ACCOUNT_ID) -> list[str]:
    """ARNs of all model versions in groups."""
    return sagemaker_arns("model-package", (f"{group}/*" for group in groups), account)


def only_roles(account: str, *names: str) -> dict[str, Any]:
    """The condition that only these roles of an account are meant, for a statement that names the account.

    A policy that named the roles themselves could be stored only once they are there.
    """
    return {"ArnEquals": {"aws:PrincipalArn": [f"arn:{Aws.PARTITION}:iam::{account}:role/{name}" for name in names]}}


def by_s3() -> dict[str, Any]:
    """The condition that a key is used by S3 alone, for objects."""
    return {"StringEquals": {"kms:ViaService": f"s3.{Aws.REGION}.amazonaws.com"}}


def signed_in(people: Sequence[str]) -> iam.CompositePrincipal:
    """People who signed in with a second factor; without ARNs, whom the account's own policies let assume the role."""
    principals = [iam.ArnPrincipal(person) for person in people] or [iam.AccountRootPrincipal()]
    second_factor = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
    return iam.CompositePrincipal(*(iam.PrincipalWithConditions(principal, second_factor) for principal in principals))


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
    """Read objects whose keys match, and list them by prefix (which S3 requires for absent ones, too)."""
    folders = [prefix.removesuffix("*") for prefix in prefixes]
    # Each prefix, with and without its last slash.
    listings = sorted({value for folder in folders for value in (f"{folder}*", folder.rstrip("/"))})
    return [
        statement(sid, ["s3:GetObject"], [bucket.arn_for_objects(prefix) for prefix in prefixes]),
        statement(f"{sid}List", ["s3:ListBucket"], [bucket.bucket_arn], {"StringLike": {"s3:prefix": listings}}),
    ]


def write_objects(sid: str, bucket: s3.IBucket, *prefixes: str) -> iam.PolicyStatement:
    """Store objects whose keys match; large ones come in parts. Nothing is ever deleted."""
    resources = [bucket.arn_for_objects(prefix) for prefix in prefixes]
    return statement(sid, ["s3:PutObject", "s3:AbortMultipartUpload"], resources)


def use_key(sid: str, key: kms.IKey, *, write: bool, volumes: bool = False) -> list[iam.PolicyStatement]:
    """Read, or write too, data that is encrypted with a key.

    Args:
        sid: The purpose.
        key: The key.
        write: New objects too.
        volumes: Volumes of SageMaker's instances too: EC2 attaches them by a grant that the service makes.
    """
    actions = ["kms:Decrypt", "kms:DescribeKey", *(["kms:Encrypt", "kms:GenerateDataKey"] if write else [])]
    use = statement(sid, actions, [key.key_arn])
    return [use, grant_key(f"{sid}Volumes", key)] if volumes else [use]


def grant_key(sid: str, key: kms.IKey) -> iam.PolicyStatement:
    """Let only an AWS service use a key for the volumes of instances."""
    return statement(sid, ["kms:CreateGrant"], [key.key_arn], {"Bool": {"kms:GrantIsForAWSResource": "true"}})
