"""The stack: every concern is a construct of its own folder, handed what it needs by name."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from constructs import Construct

from infra.delivery.construct import Delivery
from infra.delivery.pipelines import list_rules
from infra.deployment.construct import RULE as DECISIONS
from infra.deployment.construct import Deployment, check_rules
from infra.deployment.hosting import make_hosting
from infra.execution.pipeline import TAG as JOB_TAG
from infra.execution.roles import Execution
from infra.functions import Surroundings
from infra.images.builds import Builds
from infra.images.repositories import Images
from infra.monitoring.construct import Monitoring
from infra.monitoring.notifications import Notifications
from infra.names import STACK_NAME as STACK_NAME
from infra.names import TAG, list_pipelines
from infra.network.vpc import Network
from infra.outputs import as_settings, as_variables
from infra.production.sharing import RULE as WITHDRAWALS
from infra.production.sharing import Sharing
from infra.registry.groups import Registry
from infra.scheduling.construct import RULE as NEW_DATA
from infra.scheduling.construct import Scheduling
from infra.settings import Settings
from infra.storage.buckets import Storage
from infra.storage.keys import Keys
from infra.storage.retention import RETENTION
from infra.tracking.mlflow import Tracking


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
        retention = RETENTION[settings.storage.logs_days]
        self.settings, self.log_retention = settings, retention
        self.keys = Keys(self, "Keys", settings=settings.storage)
        self.storage = Storage(self, "Storage", settings=settings.storage, keys=self.keys)
        self.network = Network(
            self,
            "Network",
            settings=settings.network,
            log_key=self.keys.logs,
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
        self.registry = Registry(self, "Registry", projects=settings.projects, pipelines=settings.pipelines)
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
        self.sharing = self._sharing()
        self.scheduling = self._scheduling()
        self.deployment = self._deployment()
        self.monitoring = self._monitoring()
        outputs = self._outputs()
        self.delivery = self._delivery({name: value for name, (value, _) in outputs.items()})
        if self.delivery is not None:
            outputs |= {
                f"{name}RoleArn": (role.role_arn, "CI assumes it") for name, role in self.delivery.roles.items()
            }
        for name, (value, description) in outputs.items():
            cdk.CfnOutput(self, name, value=value, description=description)
        cdk.Tags.of(self).add(*TAG)

    def _sharing(self) -> Sharing | None:
        """Versions, models and images for production in another account."""
        if self.settings.production.account is None:
            return None
        return Sharing(
            self,
            "Sharing",
            account=self.settings.production.account,
            registry=self.registry,
            storage=self.storage,
            images=self.images,
            dead_letters=self.notifications.dead_letters,
        )

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
            hosting=make_hosting(self.settings.deployment, self.network, self.keys.artefacts),
            rollout=self.settings.deployment,
            inference_role=self.execution.jobs.inference,
            artefact_bucket=self.storage.artefacts,
            volume_key=self.keys.artefacts,
            approvers=self.notifications.approvers,
            operations=self.notifications.operations,
            tags=dict([TAG]),
            around=self.around,
        )

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
            rules=[
                *check_rules(self.registry.groups),
                DECISIONS,
                NEW_DATA,
                *([WITHDRAWALS] if self.sharing else []),
                *list_rules(self.settings.delivery),
            ],
            limits=self.settings.monitoring,
            tags={TAG[0]: [TAG[1]], JOB_TAG: self.pipelines},
            key=self.keys.logs,
            trail_bucket=self.storage.logs,
            watched_buckets=[self.storage.data, self.storage.artefacts],
            log_retention=self.log_retention,
        )

    def _outputs(self) -> dict[str, tuple[str, str]]:
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
        if self.sharing is not None:
            outputs["MedloopProductionBusArn"] = (
                self.sharing.bus_arn,
                "`medloop endpoints promote` sends events there",
            )
        if self.tracking.arn is not None:
            outputs["TrackingUri"] = (self.tracking.arn, "parameter TrackingUri")
        return outputs

    def _delivery(self, outputs: dict[str, str]) -> Delivery | None:
        """CI for those who change pipelines."""
        if self.settings.delivery.by == "off":
            return None
        return Delivery(
            self,
            "Delivery",
            settings=self.settings.delivery,
            workspace=self.execution.workspace,
            publisher=self.execution.publisher,
            hosting=make_hosting(self.settings.deployment, self.network, self.keys.artefacts),
            inference_role=self.execution.jobs.inference,
            volume_key=self.keys.artefacts,
            bus_arn=self.sharing.bus_arn if self.sharing else None,
            variables={**as_variables(outputs), "MEDLOOP_SETTINGS": as_settings(outputs)},
            notifications=self.notifications,
            log_retention=self.log_retention,
        )
