"""Production's stack, in an account of its own: it serves what is promoted to it, by digest, and holds no data."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.deployment.construct import PROMOTIONS_RULE, WITHDRAWALS_RULE, Deployment, Promotions, check_rules
from infra.deployment.hosting import make_hosting
from infra.execution.jobs import MODEL_ARTEFACTS
from infra.functions import Surroundings
from infra.grants import arn, only_roles, statement
from infra.monitoring.alarms import Alarms
from infra.monitoring.notifications import Notifications
from infra.names import (
    DEPLOYER_ROLE,
    PLANNER_ROLE,
    PROMOTER_ROLE,
    PROMOTIONS_BUS,
    TAG,
    WITHDRAWAL_ROLE,
    list_groups,
)
from infra.network.vpc import Network
from infra.production.hosting import make_hosting_role
from infra.production.sharing import name_role
from infra.settings import Settings
from infra.storage.keys import make_key, make_log_key
from infra.storage.retention import RETENTION
from medloop.cloud.promotion import DETAIL_TYPE, SOURCE


class ProductionStack(cdk.Stack):
    """Endpoints named as the registry's groups, and what deploys to them; names are fixed, so there is one a region.

    Args:
        scope: CDK's parent.
        construct_id: The stack's name.
        settings: What was chosen; its section production names the registry's bucket and key.
        kwargs: CDK's own.
    """

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, **kwargs: Any) -> None:
        super().__init__(scope, construct_id, description="Endpoints of medical-image models", **kwargs)
        production = settings.production
        if production.artefact_bucket is None or production.artefact_key is None:
            raise ValueError("production: artefact_bucket and artefact_key aren't set")
        self.registry, self.bucket = production.registry, production.artefact_bucket
        self.model_key, retention = production.artefact_key, RETENTION[settings.storage.logs_days]
        keys = Construct(self, "Keys")
        self.log_key = make_log_key(keys, settings.storage)
        self.volume_key = make_key(keys, "Volumes", "volumes of endpoints' instances", settings.storage)
        models = [f"arn:{cdk.Aws.PARTITION}:s3:::{self.bucket}/{key}" for key in MODEL_ARTEFACTS]
        self.network = Network(
            self,
            "Network",
            settings=settings.network,
            log_key=self.log_key,
            log_retention=retention,
            mlflow_server=False,
            models=models,
        )
        self.notifications = Notifications(
            self,
            "Notifications",
            key=self.log_key,
            approvers=settings.monitoring.approvers,
            operations=settings.monitoring.operations,
        )
        self.hosting_role = make_hosting_role(
            self,
            network=self.network,
            registry=self.registry,
            models=models,
            model_key=self.model_key,
            volume_key=self.volume_key,
        )
        self.bus = self._make_bus()
        around = Surroundings(
            key=self.log_key,
            log_retention=retention,
            dead_letters=self.notifications.dead_letters,
            vpc=self.network.vpc,
            security_group=self.network.security_group,
        )
        self.deployment = self._deployment(settings, around)
        self._raise_alarms()
        cdk.CfnOutput(self, "PromotionsBusArn", value=self.bus.event_bus_arn, description="promotions arrive here")
        cdk.Tags.of(self).add(*TAG)

    def _make_bus(self) -> events.EventBus:
        """The bus takes promotions of one role of the registry's account, and its rule's reports of rejections."""
        bus = events.EventBus(
            self, "Bus", event_bus_name=PROMOTIONS_BUS, description="Versions that the registry promotes"
        )
        there: dict[str, Any] = {"principals": [iam.AccountPrincipal(self.registry)]}
        promoting = {
            **only_roles(self.registry, PROMOTER_ROLE),
            "ForAllValues:StringEquals": {"events:source": SOURCE, "events:detail-type": DETAIL_TYPE},
            "Null": {"events:source": "false", "events:detail-type": "false"},
        }
        own_arn = [arn("events", f"event-bus/{PROMOTIONS_BUS}")]
        for sid, conditions in (("Promote", promoting), ("Withdraw", only_roles(self.registry, WITHDRAWAL_ROLE))):
            rights = statement(sid, ["events:PutEvents"], own_arn, conditions, **there).to_json()
            events.CfnEventBusPolicy(bus, sid, statement_id=sid, event_bus_name=bus.event_bus_name, statement=rights)
        return bus

    def _deployment(self, settings: Settings, around: Surroundings) -> Deployment:
        groups = list_groups(settings.projects, settings.pipelines)
        deployment = Deployment(
            self,
            "Deployment",
            groups=groups,
            endpoints=groups,
            hosting=make_hosting(settings.deployment, self.network, self.volume_key),
            rollout=settings.deployment,
            inference_role=self.hosting_role,
            artefact_bucket=s3.Bucket.from_bucket_name(self, "Models", self.bucket),
            volume_key=self.volume_key,
            approvers=self.notifications.approvers,
            operations=self.notifications.operations,
            tags=dict([TAG]),
            around=around,
            promotions=Promotions(self.registry, self.bus),
        )
        name_role(deployment.machine.role, DEPLOYER_ROLE)
        name_role(deployment.function.role, PLANNER_ROLE)
        return deployment

    def _raise_alarms(self) -> None:
        alarms = Alarms(self, "Monitoring", operations=self.notifications.operations)
        alarms.add_machine("medloop-deployment-failed", self.deployment.machine)
        alarms.add_functions([self.deployment.function.function])
        rules = [*check_rules(self.deployment.groups), PROMOTIONS_RULE, WITHDRAWALS_RULE]
        alarms.add_dead_letters(self.notifications.dead_letters, rules)
