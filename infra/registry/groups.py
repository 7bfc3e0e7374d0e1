"""Model package groups: one a task, in which versions wait for a person."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

TASKS = ("classification", "segmentation")


class Registry(Construct):
    """The groups.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
    """

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(scope, construct_id)
        self.groups = [f"medloop-{task}" for task in TASKS]
        for task, group in zip(TASKS, self.groups, strict=True):
            made = sagemaker.CfnModelPackageGroup(
                self,
                task.title(),
                model_package_group_name=group,
                model_package_group_description=f"{task}: versions from medloop's pipeline",
            )
            # A group that holds versions can't be deleted, and the versions are evidence.
            made.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
