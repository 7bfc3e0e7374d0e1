"""A repository per container, named as medloop/cloud/images.py expects; a tag never means another image."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr
from constructs import Construct

from infra.storage.keys import Keys
from medloop.bundle import image_containers
from medloop.cloud.base_images import base_accounts

BASE_VERSION = "2.14"
"""The PyTorch version of the base images (containers/*/container.toml)."""
_MAPPING = "BaseImages"


def base_images(scope: Construct) -> str:
    """ARN of AWS's repositories of base images in the stack's region; script mode trains in them unchanged.

    Args:
        scope: Any construct of the stack, which gets one mapping of regions to AWS's accounts.
    """
    stack = cdk.Stack.of(scope)
    mapping = stack.node.try_find_child(_MAPPING)
    if not isinstance(mapping, cdk.CfnMapping):
        accounts = base_accounts(BASE_VERSION)
        mapping = cdk.CfnMapping(
            stack, _MAPPING, mapping={region: {"account": number} for region, number in sorted(accounts.items())}
        )
    account = mapping.find_in_map(cdk.Aws.REGION, "account")
    return f"arn:{cdk.Aws.PARTITION}:ecr:{cdk.Aws.REGION}:{account}:repository/*"


class Images(Construct):
    """The repositories.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        keys: Encrypt images.
        keep: Whether they stay when the stack goes.
    """

    def __init__(self, scope: Construct, construct_id: str, *, keys: Keys, keep: bool) -> None:
        super().__init__(scope, construct_id)
        self.repositories = {name: self._make(name, keys, keep) for name in image_containers()}

    @property
    def arns(self) -> list[str]:
        """ARNs of all repositories."""
        return [repository.repository_arn for repository in self.repositories.values()]

    def _make(self, container: str, keys: Keys, keep: bool) -> ecr.Repository:
        repository = ecr.Repository(
            self,
            container.title(),
            repository_name=f"medloop-{container}",
            image_tag_mutability=ecr.TagMutability.IMMUTABLE,
            image_scan_on_push=True,
            encryption=ecr.RepositoryEncryption.KMS,
            encryption_key=keys.artefacts,
            empty_on_delete=not keep,
            removal_policy=cdk.RemovalPolicy.RETAIN if keep else cdk.RemovalPolicy.DESTROY,
        )
        repository.add_lifecycle_rule(
            # Tagged images stay: a version's image is needed as long as the version may be served.
            description="layers of pushes that were broken off",
            tag_status=ecr.TagStatus.UNTAGGED,
            max_image_age=cdk.Duration.days(7),
        )
        return repository
