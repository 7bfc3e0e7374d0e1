"""The rights to serve versions of model package groups on endpoints."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms

from infra.grants import TO_SAGEMAKER, grant_key, inside_vpc, sagemaker_arns, statement
from medloop.cloud.hosting import Hosting


def serve_versions(
    groups: Sequence[str],
    endpoints: Sequence[str],
    *,
    hosting: Hosting,
    inference_role: iam.IRole,
    volume_key: kms.IKey,
) -> list[iam.PolicyStatement]:
    """Models and configurations of these groups' versions, these endpoints; no others, and no open connection.

    Args:
        groups: Names of the model package groups.
        endpoints: Names of the endpoints.
        hosting: Where containers run.
        inference_role: The one role that is passed.
        volume_key: Encrypts the volumes of endpoints' instances.
    """
    models = sagemaker_arns("model", (f"{name}-*" for name in groups))
    configs = sagemaker_arns("endpoint-config", (f"{name}-*" for name in groups))
    changing = [f"sagemaker:{verb}Endpoint" for verb in ("Create", "Update", "Describe", "Delete")]
    vpc = hosting.vpc or {"Subnets": [], "SecurityGroupIds": []}
    closed = {
        "Bool": {"sagemaker:NetworkIsolation": "true"},
        **inside_vpc(vpc["Subnets"], vpc["SecurityGroupIds"]),
    }
    return [
        statement("CreateModels", ["sagemaker:CreateModel"], models, closed),
        statement("CreateConfigs", ["sagemaker:CreateEndpointConfig"], configs),
        statement("Endpoints", changing, [*sagemaker_arns("endpoint", endpoints), *configs]),
        statement("PassInferenceRole", ["iam:PassRole"], [inference_role.role_arn], TO_SAGEMAKER),
        statement("SeeVolumeKey", ["kms:DescribeKey"], [volume_key.key_arn]),
        # The service grants the key to the instances; the creator of the endpoint must be allowed that grant.
        grant_key("LendVolumeKey", volume_key),
    ]
