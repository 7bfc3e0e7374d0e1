"""From an approver's decision to production: blue/green with a canary, alarms that roll back, autoscaling."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aws_cdk import Aws, Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra.deployment.check import CHECK
from infra.deployment.serving import serve_versions
from infra.functions import PythonFunction, Surroundings
from infra.grants import allow, arn, sagemaker_arns, statement, versions_of
from infra.machines import MAX_TARGETS, start_on, state_machine
from infra.monitoring.metrics import alarm, metric
from infra.settings import DeploymentSettings
from medloop.cloud.hosting import VARIANT, Hosting, named_requests
from medloop.cloud.promotion import DETAIL_TYPE, SOURCE

RULE = "medloop-model-decisions"
CHECK_RULE = "medloop-daily-check"
PROMOTIONS_RULE, WITHDRAWALS_RULE = "medloop-promotions", "medloop-withdrawals"
NAMESPACE = "medloop"
"""CloudWatch's namespace of what the state machine measures (approval.asl.json names it too)."""
DEFINITION = Path(__file__).with_name("approval.asl.json")
CODE = (
    "infra/deployment/__init__.py",
    "infra/deployment/check.py",
    "infra/deployment/function.py",
    "infra/deployment/plan.py",
    "infra/deployment/promotion.py",
    "medloop/__init__.py",
    "medloop/champion.py",
    "medloop/cloud/__init__.py",
    "medloop/cloud/hosting.py",
    "medloop/cloud/promotion.py",
    "medloop/errors.py",
    "medloop/s3_uri.py",
    "medloop/documents/__init__.py",
    "medloop/documents/artefact.py",
    "medloop/documents/champion.py",
    "medloop/documents/file_names.py",
    "medloop/documents/json_text.py",
    "medloop/documents/metadata.py",
    "medloop/documents/names.py",
)


@dataclass(frozen=True)
class Promotions:
    """The source of versions that another account promotes to this one.

    Args:
        registry: The account of the versions.
        bus: Where its events arrive.
    """

    registry: str
    bus: events.IEventBus


class Deployment(Construct):
    """The approval's state machine, what starts it, and each endpoint's alarms."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        groups: Sequence[str],
        endpoints: Sequence[str],
        hosting: Hosting,
        rollout: DeploymentSettings,
        inference_role: iam.IRole,
        artefact_bucket: s3.IBucket,
        volume_key: kms.IKey,
        approvers: sns.ITopic,
        operations: sns.ITopic,
        tags: Mapping[str, str],
        around: Surroundings,
        promotions: Promotions | None = None,
    ) -> None:
        """Make it.

        Args:
            scope: CDK's parent.
            construct_id: CDK's id.
            groups: Model package groups whose decisions count.
            endpoints: The endpoints that may be made and changed.
            hosting: The machines; real time.
            rollout: How a new version takes over.
            inference_role: What containers run with.
            artefact_bucket: Holds the models.
            volume_key: Encrypts the volumes of endpoints' machines.
            approvers: Who decides.
            operations: The topic for failures.
            tags: Of models, configurations and endpoints.
            around: Key, logs, dead letters, network.
            promotions: Serve what another account promotes; None: what this account approves.
        """
        super().__init__(scope, construct_id)
        if hosting.kind != "realtime":
            raise ValueError(f"hosting.kind: {hosting.kind}; the stack deploys realtime (canary, alarms, autoscaling)")
        self.groups, self.endpoints, self._promotions = list(groups), list(endpoints), promotions
        self.versions = versions_of(groups, promotions.registry if promotions else Aws.ACCOUNT_ID)
        self.endpoint_arns = sagemaker_arns("endpoint", endpoints)
        self.config_arns = sagemaker_arns("endpoint-config", (f"{name}-*" for name in groups))
        self.alarms = {name: self._alarms(name, rollout, operations) for name in endpoints}
        self.function = PythonFunction(
            self,
            "Plan",
            function_name="medloop-deployment-plan",
            description="What follows from a decision about a model version",
            files=CODE,
            handler="infra/deployment/function.handler",
            timeout=Duration.minutes(1),
            around=around,
            environment={"PLACE": self._serving_config(hosting, rollout, inference_role, artefact_bucket, tags)},
        )
        self.machine = state_machine(
            self,
            "Approval",
            name="medloop-approval",
            definition=approval_definition(hosting),
            function=self.function,
            topics={"ApproversTopicArn": approvers, "OperationsTopicArn": operations},
        )
        self._let_plan()
        self._let_deploy(hosting, inference_role, volume_key)
        self._let_scale()
        if promotions:
            self._on_promotions(promotions, around)
        else:
            self._on_decisions(around)
        self._check_daily(around)

    def _serving_config(
        self,
        hosting: Hosting,
        rollout: DeploymentSettings,
        role: iam.IRole,
        bucket: s3.IBucket,
        tags: Mapping[str, str],
    ) -> str:
        """The function's `Serving`, with names that are known at deployment only."""
        machines = {**asdict(hosting), "instance_count": rollout.minimum_instances}
        document = {
            "hosting": machines,
            "role": role.role_arn,
            "bucket": bucket.bucket_name,
            "endpoints": self.endpoints,
            "deployment": {name: self._deployment(name, rollout) for name in self.endpoints},
            "scaling": {
                "minimum": rollout.minimum_instances,
                "maximum": rollout.maximum_instances,
                "invocations": rollout.invocations,
            },
            "tags": [{"Key": name, "Value": value} for name, value in sorted(tags.items())],
        }
        if self._promotions:
            document["registry"] = arn("sagemaker", "model-package", self._promotions.registry)
        return Stack.of(self).to_json_string(document)

    def _deployment(self, endpoint: str, rollout: DeploymentSettings) -> dict[str, Any]:
        """UpdateEndpoint's DeploymentConfig."""
        bake = rollout.bake_minutes * 60
        canary = {"Type": "CAPACITY_PERCENT", "Value": rollout.canary_percent}
        return {
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": {
                    "Type": "CANARY",
                    "WaitIntervalInSeconds": bake,
                    "CanarySize": canary,
                },
                "TerminationWaitInSeconds": bake,
                # Two bakes, and an hour for instances to come up with a large image.
                "MaximumExecutionTimeoutInSeconds": 2 * bake + 3600,
            },
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": each.alarm_name} for each in self.alarms[endpoint]]},
        }

    def _alarms(self, endpoint: str, rollout: DeploymentSettings, operations: sns.ITopic) -> list[cloudwatch.Alarm]:
        """The alarms that roll a deployment back, and that notify operations at any time."""
        errors = alarm(
            self,
            f"{endpoint}-errors",
            "Runbook: medloop-endpoint-errors. Answers of 5xx.",
            endpoint_metric(endpoint, "Invocation5XXErrors"),
            operations,
            threshold=rollout.max_errors,
            evaluation_periods=5,
            datapoints_to_alarm=1,
        )
        latency = alarm(
            self,
            f"{endpoint}-latency",
            "Runbook: medloop-endpoint-latency. 99th percentile of the model's latency.",
            endpoint_metric(endpoint, "ModelLatency", "p99"),
            operations,
            # The service measures it in microseconds.
            threshold=rollout.max_latency_seconds * 1_000_000,
            evaluation_periods=5,
            datapoints_to_alarm=3,
        )
        return [errors, latency]

    def _let_plan(self) -> None:
        """Let the function read the registry and the endpoints."""
        # The list action has no resource: it lists all versions. A promotion names its version.
        listing = [] if self._promotions else [statement("ListVersions", ["sagemaker:ListModelPackages"])]
        allow(
            self.function.role,
            *listing,
            statement("ReadVersions", ["sagemaker:DescribeModelPackage"], self.versions),
            statement("ReadEndpoints", ["sagemaker:DescribeEndpoint"], self.endpoint_arns),
            statement("ReadConfigs", ["sagemaker:DescribeEndpointConfig", "sagemaker:ListTags"], self.config_arns),
        )

    def _let_deploy(self, hosting: Hosting, inference_role: iam.IRole, volume_key: kms.IKey) -> None:
        """Models and configurations of these groups' versions, these endpoints; no others."""
        models = sagemaker_arns("model", (f"{name}-*" for name in self.groups))
        alarms = [each.alarm_arn for of_endpoint in self.alarms.values() for each in of_endpoint]
        namespace = {"StringEquals": {"cloudwatch:namespace": NAMESPACE}}
        allow(
            self.machine,
            *serve_versions(
                self.groups, self.endpoints, hosting=hosting, inference_role=inference_role, volume_key=volume_key
            ),
            statement("ReadVersions", ["sagemaker:DescribeModelPackage"], self.versions),
            # Another account's version is a resource of the request too: its group's policy has the same action.
            *([statement("UseVersions", ["sagemaker:CreateModel"], self.versions)] if self._promotions else []),
            statement("Tag", ["sagemaker:AddTags"], [*models, *self.config_arns, *self.endpoint_arns]),
            statement("ReadAlarms", ["cloudwatch:DescribeAlarms"], alarms),
            # Metrics know no resource.
            statement("Measure", ["cloudwatch:PutMetricData"], conditions=namespace),
        )

    def _let_scale(self) -> None:
        """Application Auto Scaling checks that its caller may change what it is to scale."""
        role = "role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com"
        name = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
        linked = f"arn:{Aws.PARTITION}:iam::{Aws.ACCOUNT_ID}:{role}/{name}"
        variants = [*self.endpoint_arns, *(f"{endpoint}/variant/*" for endpoint in self.endpoint_arns)]
        alarms = arn("cloudwatch", "alarm:TargetTracking-endpoint/*")
        targets = arn("application-autoscaling", "scalable-target/*")
        scaling = ("RegisterScalableTarget", "DeregisterScalableTarget", "PutScalingPolicy")
        setting = [f"application-autoscaling:{verb}" for verb in scaling]
        watching = ["cloudwatch:PutMetricAlarm", "cloudwatch:DescribeAlarms", "cloudwatch:DeleteAlarms"]
        of_sagemaker = {"StringEquals": {"application-autoscaling:service-namespace": "sagemaker"}}
        by_service = {"StringEquals": {"iam:AWSServiceName": "sagemaker.application-autoscaling.amazonaws.com"}}
        allow(
            self.machine,
            statement("SetScaling", setting, [targets], of_sagemaker),
            statement("Scale", ["sagemaker:UpdateEndpointWeightsAndCapacities"], variants),
            statement("SeeConfigs", ["sagemaker:DescribeEndpointConfig"], self.config_arns),
            statement("ScalingAlarms", watching, [alarms]),
            statement("ScalingRole", ["iam:CreateServiceLinkedRole"], [linked], by_service),
        )

    def _on_decisions(self, around: Surroundings) -> None:
        pattern = events.EventPattern(
            source=["aws.sagemaker"],
            detail_type=["SageMaker Model Package State Change"],
            detail={
                "ModelPackageGroupName": self.groups,
                "ModelApprovalStatus": ["Approved", "PendingManualApproval", "Rejected"],
            },
        )
        start_on(
            self,
            "Decisions",
            name=RULE,
            description="A model version waits for a decision, or was decided upon",
            pattern=pattern,
            machine=self.machine,
            dead_letters=around.dead_letters,
        )

    def _on_promotions(self, promotions: Promotions, around: Surroundings) -> None:
        """Promotions deploy; the registry's rejections are reported where the version is served."""
        groups = {"ModelPackageGroupName": self.groups}
        causes = {
            "Promotions": (PROMOTIONS_RULE, "A version was promoted to production", SOURCE, DETAIL_TYPE, groups),
            "Withdrawals": (
                WITHDRAWALS_RULE,
                "A version was rejected that may be served here",
                "aws.sagemaker",
                "SageMaker Model Package State Change",
                {**groups, "ModelApprovalStatus": ["Rejected"]},
            ),
        }
        for construct_id, (name, description, source, kind, detail) in causes.items():
            pattern = events.EventPattern(
                account=[promotions.registry], source=[source], detail_type=[kind], detail=detail
            )
            start_on(
                self,
                construct_id,
                name=name,
                description=description,
                pattern=pattern,
                bus=promotions.bus,
                machine=self.machine,
                dead_letters=around.dead_letters,
            )

    def _check_daily(self, around: Surroundings) -> None:
        """An event that the service didn't send is lost to every queue: the daily check finds such decisions."""
        for number, name in enumerate(check_rules(self.groups)):
            start_on(
                self,
                f"Check{number or ''}",
                name=name,
                description="Do endpoints serve what was decided",
                daily_inputs=[{CHECK: group} for group in self.groups[number * MAX_TARGETS :][:MAX_TARGETS]],
                machine=self.machine,
                dead_letters=around.dead_letters,
            )


def check_rules(groups: Sequence[str]) -> list[str]:
    """Names of the rules of the daily check: one for each five groups."""
    return [f"{CHECK_RULE}-{start}" if start else CHECK_RULE for start in range(0, len(groups), MAX_TARGETS)]


def approval_definition(hosting: Hosting) -> str:
    """The state machine, its requests with the parameters that this hosting gives: a path in it must exist."""
    document = json.loads(DEFINITION.read_text(encoding="utf-8"))
    package = {"ModelPackageGroupName": "group", "ModelPackageVersion": 1, "ModelPackageArn": "package"}
    model, config = named_requests(hosting, package, "role", "folder")
    for state, request in (("CreateModel", model), ("CreateConfig", config)):
        parameters = document["States"][state]["Parameters"]
        if unknown := {*request} - {name.removesuffix(".$") for name in parameters}:
            raise ValueError(f"{DEFINITION.name}: {state} passes on no {', '.join(sorted(unknown))}")
        used = {*request, "Tags"}
        document["States"][state]["Parameters"] = {n: v for n, v in parameters.items() if n.removesuffix(".$") in used}
    return json.dumps(document)


def endpoint_metric(endpoint: str, name: str, statistic: str = "Sum") -> cloudwatch.Metric:
    """A metric of the endpoint's one variant, each minute."""
    dimensions = {"EndpointName": endpoint, "VariantName": VARIANT}
    return metric("AWS/SageMaker", name, dimensions, statistic, Duration.minutes(1))
