"""The role of containers in production: it reads the registry's models and pulls its image, and nothing else there."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from infra.execution.jobs import job_rights
from infra.grants import arn, by_s3, make_role, statement, use_key
from infra.names import HOSTING_ROLE
from infra.network.vpc import Network
from infra.production.sharing import SERVED, name_role


def make_hosting_role(
    scope: Construct, *, network: Network, registry: str, models: Sequence[str], model_key: str, volume_key: kms.IKey
) -> iam.Role:
    """Make the role.

    Args:
        scope: CDK's parent.
        network: Where containers run.
        registry: The account of models and images.
        models: ARNs of the models' objects.
        model_key: ARN of the key that encrypts them.
        volume_key: Encrypts the volumes of endpoints' instances.
    """
    image = arn("ecr", f"repository/medloop-{SERVED}", registry)
    rights = [
        *job_rights(network, [image]),
        statement("ReadModels", ["s3:GetObject"], models),
        statement("DecryptModels", ["kms:Decrypt"], [model_key], by_s3()),
        *use_key("UseVolumes", volume_key, write=False, volumes=True),
    ]
    role = make_role(Construct(scope, "Hosting"), "sagemaker", "medloop: containers of endpoints", rights)
    name_role(role, HOSTING_ROLE)
    return role
