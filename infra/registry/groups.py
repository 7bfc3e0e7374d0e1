"""Model package groups: one a pipeline, in which versions wait for an approver."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from infra.names import TASKS
from medloop.cloud.layout import group_name, pipeline_name


class Registry(Construct):
    """The groups.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        projects: The user's projects.
        pipelines: Pipelines of users' own projects.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, projects: Sequence[str], pipelines: Sequence[str]
    ) -> None:
        super().__init__(scope, construct_id)
        self.made: dict[str, sagemaker.CfnModelPackageGroup] = {}
        for project in ("", *projects):
            for pipeline in (*TASKS, *pipelines):
                group = group_name(pipeline, project)
                made = sagemaker.CfnModelPackageGroup(
                    self,
                    pipeline_name(pipeline, project).title().replace("-", ""),
                    model_package_group_name=group,
                    model_package_group_description=f"{pipeline}: versions from medloop's pipeline",
                )
                # A group that holds versions can't be deleted, and the versions are evidence.
                made.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
                self.made[group] = made

    @property
    def groups(self) -> list[str]:
        """Names of the groups."""
        return list(self.made)
