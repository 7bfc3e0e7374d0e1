"""The stack: every concern is a construct of its own folder, handed what it needs by name."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.network.vpc import Network
from infra.settings import Settings
from infra.storage.buckets import Storage
from infra.storage.keys import Keys

STACK_NAME = "medloop"
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
        self.keys = Keys(self, "Keys", settings=settings.storage)
        self.storage = Storage(self, "Storage", settings=settings.storage, keys=self.keys)
        self.network = Network(
            self,
            "Network",
            settings=settings.network,
            keys=self.keys,
            log_retention=retention,
            mlflow=settings.tracking.mlflow != "off",
        )
        cdk.Tags.of(self).add("medloop", "infra")
