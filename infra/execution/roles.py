"""Permissions: the roles of pipelines, jobs and people, and the function that finds the champion."""

from __future__ import annotations

from collections.abc import Sequence

from constructs import Construct

from infra.execution.champion import make_champion
from infra.execution.jobs import JobRoles
from infra.execution.people import Workspace, make_approver, make_engineer, make_publisher
from infra.execution.pipeline import make_pipeline_role
from infra.functions import Surroundings
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
        network: Where jobs run.
        images: The containers' repositories.
        tracking: MLflow.
        access: Who approves, who publishes and runs pipelines, and whether all jobs read raw data.
        isolates_training: Training jobs open no connection.
        pipelines: Names of the pipelines.
        groups: Names of the model package groups.
        around: The function's key, log, network.
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
        isolates_training: bool,
        pipelines: Sequence[str],
        groups: list[str],
        around: Surroundings,
    ) -> None:
        super().__init__(scope, construct_id)
        self.jobs = JobRoles(
            self, "Jobs", storage=storage, network=network, images=images, tracking=tracking, access=access
        )
        self.champion = make_champion(self, storage, groups, around)
        self.pipeline = make_pipeline_role(
            self,
            jobs=self.jobs,
            champion=self.champion,
            storage=storage,
            network=network,
            images=images,
            groups=groups,
            isolates_training=isolates_training,
        )
        workspace = Workspace(access=access, storage=storage, images=images, pipelines=pipelines, groups=groups)
        self.workspace = workspace
        self.engineer = make_engineer(self, workspace)
        self.publisher = make_publisher(self, workspace, champion=self.champion, pipeline_role=self.pipeline)
        self.approver = make_approver(self, workspace)
