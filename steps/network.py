"""The network of jobs, and the key that encrypts what they store; the same settings for every job.

The effect of each setting on AWS, and its requirements of the account: docs/security.md.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from steps.base import Settings

if TYPE_CHECKING:
    from sagemaker.core.network import NetworkConfig
    from sagemaker.core.training.configs import Networking

SubnetId = Annotated[str, Field(pattern=r"^subnet-[0-9a-f]{8,17}$")]
SecurityGroupId = Annotated[str, Field(pattern=r"^sg-[0-9a-f]{8,17}$")]
KmsKey = Annotated[
    str,
    Field(
        pattern=r"^(arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/)?(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$"
    ),
]
"""A key's id or ARN. The service takes no alias for the volumes of training jobs, so none is taken anywhere."""
_LOCAL_STORAGE = re.compile(r"ml\.([a-z]+\d+[a-z]*dn?e?|p4de|p5|p5e|p5en|p6[a-z0-9-]*|g4dn|g5|g6e?|gr6|trn1n?|trn2)\.")
"""Instances whose volume is a disk of their own, encrypted by its hardware: they take no key of ours.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ResourceConfig.html (VolumeKmsKeyId).
"""


def takes_volume_key(instance_type: str) -> bool:
    """True if the service takes a KMS key for the instance's volume; it refuses one for local disks."""
    return not _LOCAL_STORAGE.match(instance_type)


class NetworkSettings(Settings):
    """Network and encryption of all jobs."""

    subnets: Annotated[tuple[SubnetId, ...], Field(max_length=16)] = ()
    """Private subnets of all jobs; empty: no VPC."""
    security_group_ids: Annotated[tuple[SecurityGroupId, ...], Field(max_length=5)] = ()
    kms_key: KmsKey | None = None
    """KMS key of jobs' outputs, and of their volumes if the instance type takes a key."""
    isolation: bool = False
    """No job can open a connection; SageMaker moves inputs and outputs for it."""
    isolate_processing: bool = False
    """The same for Split and Evaluate alone, where training needs connections (MLflow, script mode)."""
    encrypt_inter_container: bool = False
    """Encrypt the traffic between the instances of one job (slower)."""

    @model_validator(mode="after")
    def _vpc_is_whole(self) -> Self:
        if bool(self.subnets) != bool(self.security_group_ids):
            raise ValueError("subnets and security_group_ids are given together or not at all")
        return self

    def vpc_config(self) -> dict[str, list[str]] | None:
        """Return the service's VpcConfig; None outside any VPC."""
        if not self.subnets:
            return None
        return {"SecurityGroupIds": list(self.security_group_ids), "Subnets": list(self.subnets)}

    def volume_key(self, instance_type: str) -> str | None:
        """Return the key of a job's volume; None without one, and for instances that the service refuses it for."""
        return self.kms_key if takes_volume_key(instance_type) else None

    def of_training(self) -> Networking | None:
        """Make the SDK's object for training jobs; None if no option is set, so that the definition stays short."""
        from sagemaker.core.training.configs import Networking

        if not (self.subnets or self.isolation or self.encrypt_inter_container):
            return None
        return Networking(
            subnets=list(self.subnets) or None,
            security_group_ids=list(self.security_group_ids) or None,
            enable_network_isolation=self.isolation,
            enable_inter_container_traffic_encryption=self.encrypt_inter_container,
        )

    def of_processing(self) -> NetworkConfig | None:
        """Make the SDK's object for processing jobs; None if no option is set."""
        from sagemaker.core.network import NetworkConfig

        isolation = self.isolation or self.isolate_processing
        if not (self.subnets or isolation or self.encrypt_inter_container):
            return None
        vpc: dict[str, Any] = {}
        if self.subnets:
            vpc = {"subnets": list(self.subnets), "security_group_ids": list(self.security_group_ids)}
        return NetworkConfig(
            enable_network_isolation=isolation,
            encrypt_inter_container_traffic=self.encrypt_inter_container,
            **vpc,
        )
