"""The instances of endpoints."""

from __future__ import annotations

from aws_cdk import aws_kms as kms

from infra.network.vpc import Network
from infra.settings import DeploymentSettings
from medloop.cloud.hosting import Hosting
from steps.network import takes_volume_key


def make_hosting(settings: DeploymentSettings, network: Network, key: kms.IKey) -> Hosting:
    """Choose the instances of endpoints: no connection can be opened from their containers.

    Args:
        settings: The instance type.
        network: Where containers run.
        key: Encrypts the instances' volumes, if their type takes a key.
    """
    kind = settings.instance_type
    vpc = None
    if groups := network.security_group_ids:
        vpc = {"SecurityGroupIds": groups, "Subnets": list(network.subnet_ids)}
    volume_key = key.key_arn if takes_volume_key(kind) else None
    return Hosting(instance_type=kind, vpc=vpc, isolation=True, volume_key=volume_key)
