"""The stack: every concern is a construct of its own folder, handed what it needs by name."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.deployment.construct import CHECK_RULE, Deployment
from infra.deployment.construct import RULE as DECISIONS
from infra.execution.pipeline import TAG as JOB_TAG
from infra.execution.roles import Execution
from infra.functions import Surroundings
from infra.images.builds import Builds
from infra.images.repositories import Images
from infra.monitoring.construct import Monitoring
from infra.monitoring.notifications import Notifications
from infra.names import STACK_NAME as STACK_NAME
from infra.names import list_pipelines
from infra.network.vpc import Network
from infra.registry.groups import Registry
from infra.scheduling.construct import RULE as NEW_DATA
from infra.scheduling.construct import Scheduling
from infra.settings import Settings
from infra.storage.buckets import Storage
from infra.storage.keys import Keys
from infra.tracking.mlflow import Tracking
from medloop.cloud.hosting import Hosting
from steps.network import takes_volume_key

TAG = ("medloop:part-of", "infra")
"""Tag of everything in the stack; with the tag of pipelines' jobs, what budgets and costs go by."""
_RETENTION = {
    365: logs.RetentionDays.ONE_YEAR,
    731: logs.RetentionDays.TWO_YEARS,
    1096: logs.RetentionDays.THREE_YEARS,
    1827: logs.RetentionDays.FIVE_YEARS,
    2192: logs.RetentionDays.SIX_YEARS,
    2557: logs.RetentionDays.SEVEN_YEARS,
    3653: logs.RetentionDays.TEN_YEARS,
}


class MedloopStack(cdk.Stack):
    """All of medloop in one account and region; names are fixed, so there is one a region.

    Args:
        scope: CDK's parent.
        construct_id: The stack's name.
        settings: What was chosen.
        kwargs: CDK's own.
    """

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, **kwargs: Any) -> None:
        super().__init__(scope, construct_id, description="Medical-image models on SageMaker Pipelines", **kwargs)
        retention = _RETENTION[settings.storage.logs_days]
        self.settings, self.log_retention = settings, retention
        self.keys = Keys(self, "Keys", settings=settings.storage)
        self.storage = Storage(self, "Storage", settings=settings.storage, keys=self.keys)
        self.network = Network(
            self,
            "Network",
            settings=settings.network,
            keys=self.keys,
            log_retention=retention,
            mlflow_server=settings.tracking.mlflow == "server",
        )
        self.notifications = Notifications(
            self,
            "Notifications",
            key=self.keys.logs,
            approvers=settings.monitoring.approvers,
            operations=settings.monitoring.operations,
        )
        self.around = Surroundings(
            key=self.keys.logs,
            log_retention=retention,
            dead_letters=self.notifications.dead_letters,
            vpc=self.network.vpc,
            security_group=self.network.security_group,
        )
        self.images = Images(self, "Images", keys=self.keys, keep=settings.storage.keep_on_destroy)
        self.pipelines = list_pipelines(settings.projects, settings.pipelines)
        self.registry = Registry(self, "Registry", projects=settings.projects)
        self.tracking = Tracking(self, "Tracking", settings=settings.tracking, storage=self.storage)
        self.execution = Execution(
            self,
            "Execution",
            storage=self.storage,
            network=self.network,
            images=self.images,
            tracking=self.tracking,
            access=settings.access,
            isolates_training=settings.isolates_training,
            pipelines=self.pipelines,
            groups=self.registry.groups,
            around=self.around,
        )
        self.builds = Builds(
            self,
            "Builds",
            storage=self.storage,
            images=self.images,
            pipeline_role=self.execution.pipeline,
            log_retention=retention,
        )
        self.scheduling = self._scheduling()
        self.deployment = self._deployment()
        self.monitoring = self._monitoring()
        self._put_outputs()
        cdk.Tags.of(self).add(*TAG)

    def _scheduling(self) -> Scheduling:
        """Retraining by the clock and on new data."""
        return Scheduling(
            self,
            "Scheduling",
            pipelines=self.pipelines,
            schedules=self.settings.scheduling.schedules,
            data_bucket=self.storage.data,
            artefact_bucket=self.storage.artefacts,
            operations=self.notifications.operations,
            around=self.around,
        )

    def _deployment(self) -> Deployment:
        """From approval to production, on endpoints that are named as their groups."""
        return Deployment(
            self,
            "Deployment",
            groups=self.registry.groups,
            endpoints=self.registry.groups,
            hosting=self._hosting(),
            rollout=self.settings.deployment,
            inference_role=self.execution.jobs.inference,
            artefact_bucket=self.storage.artefacts,
            volume_key=self.keys.artefacts,
            approvers=self.notifications.approvers,
            operations=self.notifications.operations,
            tags=dict([TAG]),
            around=self.around,
        )

    def _hosting(self) -> Hosting:
        """The instances of endpoints: no connection can be opened from their containers."""
        kind = self.settings.deployment.instance_type
        vpc = None
        if groups := self.network.security_group_ids:
            vpc = {"SecurityGroupIds": groups, "Subnets": list(self.network.subnet_ids)}
        key = self.keys.artefacts.key_arn if takes_volume_key(kind) else None
        return Hosting(instance_type=kind, vpc=vpc, isolation=True, volume_key=key)

    def _monitoring(self) -> Monitoring:
        """Dashboard, alarms, budget, trail."""
        failures = {
            "medloop-retraining-failed": self.scheduling.guard,
            "medloop-deployment-failed": self.deployment.machine,
        }
        functions = [self.scheduling.function.function, self.deployment.function.function, self.execution.champion]
        return Monitoring(
            self,
            "Monitoring",
            pipelines=self.pipelines,
            groups=self.registry.groups,
            endpoints=self.registry.groups,
            machines=failures,
            functions=functions,
            operations=self.notifications.operations,
            dead_letters=self.notifications.dead_letters,
            rules=[CHECK_RULE, DECISIONS, NEW_DATA],
            limits=self.settings.monitoring,
            tags={TAG[0]: [TAG[1]], JOB_TAG: self.pipelines},
            key=self.keys.logs,
            trail_bucket=self.storage.logs,
            watched_buckets=[self.storage.data, self.storage.artefacts],
            log_retention=self.log_retention,
        )

    def _put_outputs(self) -> None:
        """Outputs that medloop's command line reads as variables, or gets as settings (infra/outputs.py)."""
        execution = self.execution
        outputs = {
            "MedloopBucket": (self.storage.artefacts.bucket_name, "the artefact bucket"),
            "MedloopRoleArn": (execution.pipeline.role_arn, "the role of pipelines"),
            "MedloopProcessingRoleArn": (execution.jobs.processing.role_arn, "the role of Split's job"),
            "MedloopTrainingRoleArn": (execution.jobs.training.role_arn, "the role of Train's and Tune's jobs"),
            "MedloopEvaluationRoleArn": (execution.jobs.evaluation.role_arn, "the role of Evaluate's job"),
            "MedloopInferenceRoleArn": (execution.jobs.inference.role_arn, "the role of endpoints"),
            "DataBucket": (self.storage.data.bucket_name, "raw/<pipeline>/<data set>/ takes new data"),
            "ArtefactKeyArn": (self.keys.artefacts.key_arn, "setting network.kms_key"),
            "IsolatedJobs": (
                "all" if self.settings.isolates_training else "processing",
                "settings network.isolation, network.isolate_processing",
            ),
            "ChampionFunctionArn": (execution.champion.function_arn, "setting champion.lambda_arn; its default, too"),
            "ApproverRoleArn": (execution.approver.role_arn, "people who approve assume it"),
            "EngineerRoleArn": (execution.engineer.role_arn, "people who run pipelines assume it"),
            "PublisherRoleArn": (execution.publisher.role_arn, "CI or an administrator publishes definitions with it"),
            "MedloopGuardArn": (self.scheduling.guard.state_machine_arn, "schedules start it"),
            "MedloopSchedulerRoleArn": (self.scheduling.role.role_arn, "the role of schedules"),
            "MedloopDeadLettersArn": (self.notifications.dead_letters.queue_arn, "keeps undelivered events"),
            "ImagesProject": (self.builds.project.project_name, "CodeBuild's project: make images"),
        }
        if self.network.security_group is not None:
            outputs["Subnets"] = (cdk.Fn.join(",", self.network.subnet_ids), "setting network.subnets")
            outputs["SecurityGroup"] = (
                self.network.security_group.security_group_id,
                "setting network.security_group_ids",
            )
        if self.tracking.arn is not None:
            outputs["TrackingUri"] = (self.tracking.arn, "parameter TrackingUri")
        for name, (value, description) in outputs.items():
            cdk.CfnOutput(self, name, value=value, description=description)
