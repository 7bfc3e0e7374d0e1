"""Who may do what: the roles of pipelines, jobs and people, and the function that finds the champion."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.execution.approver import Approver
from infra.execution.champion import Champion
from infra.execution.engineer import Engineer
from infra.execution.jobs import JobRoles
from infra.execution.pipeline import PipelineRole
from infra.images.repositories import Images
from infra.network.vpc import Network
from infra.settings import AccessSettings
from infra.storage.buckets import Storage
from infra.tracking.mlflow import Tracking


class Execution(Construct):
    """The roles and the champion function.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        storage: The buckets.
        network: Where jobs and the function run.
        images: The containers' repositories.
        tracking: MLflow.
        access: Who approves, who runs pipelines, and whether all jobs read raw data.
        pipelines: Names of the pipelines.
        groups: Names of the model package groups.
        log_retention: How long the function's log is kept.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        storage: Storage,
        network: Network,
        images: Images,
        tracking: Tracking,
        access: AccessSettings,
        pipelines: Sequence[str],
        groups: list[str],
        log_retention: logs.RetentionDays,
    ) -> None:
        super().__init__(scope, construct_id)
        self.jobs = JobRoles(
            self, "Jobs", storage=storage, network=network, images=images, tracking=tracking, access=access
        )
        champion = Champion(
            self, "Champion", storage=storage, network=network, groups=groups, log_retention=log_retention
        )
        self.champion = champion.function
        self.pipeline = PipelineRole(
            self,
            "Pipeline",
            jobs=self.jobs,
            champion=self.champion,
            storage=storage,
            network=network,
            images=images,
            groups=groups,
        ).role
        self.engineer = Engineer(
            self,
            "Engineer",
            access=access,
            storage=storage,
            images=images,
            champion=self.champion,
            pipelines=pipelines,
            groups=groups,
            pipeline_role=self.pipeline,
        ).role
        self.approver = Approver(
            self, "Approver", access=access, storage=storage, pipelines=pipelines, groups=groups
        ).role
