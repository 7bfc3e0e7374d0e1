"""From an approver's decision to production: blue/green with a canary, alarms that roll back, autoscaling."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aws_cdk import Aws, Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.functions import PythonFunction
from infra.machines import state_machine
from infra.settings import DeploymentSettings
from medloop.cloud.hosting import VARIANT, Hosting, named_requests

DEFINITION = Path(__file__).with_name("approval.asl.json")
CODE = (
    "infra/deployment/__init__.py",
    "infra/deployment/plan.py",
    "medloop/__init__.py",
    "medloop/champion.py",
    "medloop/cloud/__init__.py",
    "medloop/cloud/hosting.py",
    "medloop/errors.py",
    "medloop/metadata.py",
)


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
        key: kms.IKey,
        approvers: sns.ITopic,
        operations: sns.ITopic,
        dead_letters: sqs.IQueue,
        tags: Mapping[str, str],
        log_retention: logs.RetentionDays,
        vpc: ec2.IVpc | None = None,
        security_group: ec2.ISecurityGroup | None = None,
    ) -> None:
        """Make it.

        Args:
            scope: Where in the tree.
            construct_id: Under which name there.
            groups: Model package groups whose decisions count.
            endpoints: The endpoints that may be made and changed.
            hosting: The machines; real time.
            rollout: How a new version takes over.
            inference_role: What containers run with.
            artefact_bucket: Holds the models.
            key: Encrypts logs and executions.
            approvers: Who decides.
            operations: Who is told of failures.
            dead_letters: Events that could not be delivered.
            tags: Of models, configurations and endpoints.
            log_retention: How long logs are kept.
            vpc: Where the function runs; None: in Lambda's own network.
            security_group: Of the VPC.
        """
        super().__init__(scope, construct_id)
        if hosting.kind != "realtime":
            raise ValueError(f"hosting.kind: {hosting.kind}; the stack deploys realtime (canary, alarms, autoscaling)")
        self.groups, self.endpoints = list(groups), list(endpoints)
        self.alarms = {name: self._alarms(name, rollout, operations) for name in endpoints}
        self.function = PythonFunction(
            self,
            "Plan",
            function_name="medloop-deployment-plan",
            description="What follows from a decision about a model version",
            files=CODE,
            handler="infra/deployment/plan.handler",
            key=key,
            log_retention=log_retention,
            timeout=Duration.minutes(1),
            environment={"PLACE": self._place(hosting, rollout, inference_role, artefact_bucket, tags)},
            vpc=vpc,
            security_group=security_group,
        )
        self.machine = state_machine(
            self,
            "Approval",
            name="medloop-approval",
            definition=approval_definition(hosting),
            key=key,
            log_retention=log_retention,
            values={
                "PlanFunctionArn": self.function.function.function_arn,
                "ApproversTopicArn": approvers.topic_arn,
                "OperationsTopicArn": operations.topic_arn,
            },
        )
        # Spelled out: CDK's grants add stars (versions of the function, kms:GenerateDataKey*).
        for sid, action, resources in (
            ("Plan", "lambda:InvokeFunction", [self.function.function.function_arn]),
            ("Tell", "sns:Publish", [approvers.topic_arn, operations.topic_arn]),
        ):
            self.machine.add_to_role_policy(iam.PolicyStatement(sid=sid, actions=[action], resources=resources))
        self._let_plan()
        self._let_deploy(inference_role)
        self._on_decisions(dead_letters)

    def _place(
        self,
        hosting: Hosting,
        rollout: DeploymentSettings,
        role: iam.IRole,
        bucket: s3.IBucket,
        tags: Mapping[str, str],
    ) -> str:
        """The function's `Place`, with names that are known at deployment only."""
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
            "AutoRollbackConfiguration": {
                "Alarms": [{"AlarmName": alarm.alarm_name} for alarm in self.alarms[endpoint]]
            },
        }

    def _alarms(self, endpoint: str, rollout: DeploymentSettings, operations: sns.ITopic) -> list[cloudwatch.Alarm]:
        """What rolls a deployment back, and tells operations at any time."""
        errors = cloudwatch.Alarm(
            self,
            f"{endpoint}-errors",
            alarm_name=f"{endpoint}-errors",
            alarm_description="Runbook: medloop-endpoint-errors. Answers of 5xx.",
            metric=endpoint_metric(endpoint, "Invocation5XXErrors", "Sum", Duration.minutes(1)),
            threshold=rollout.max_errors,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=5,
            datapoints_to_alarm=1,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        latency = cloudwatch.Alarm(
            self,
            f"{endpoint}-latency",
            alarm_name=f"{endpoint}-latency",
            alarm_description="Runbook: medloop-endpoint-latency. 99th percentile of the model's latency.",
            # The service measures it in microseconds.
            metric=endpoint_metric(endpoint, "ModelLatency", "p99", Duration.minutes(1)),
            threshold=rollout.max_latency_seconds * 1_000_000,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=5,
            datapoints_to_alarm=3,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        for alarm in (errors, latency):
            alarm.add_alarm_action(actions.SnsAction(operations))
        return [errors, latency]

    def _arn(self, kind: str, name: str) -> str:
        return f"arn:{Aws.PARTITION}:sagemaker:{Aws.REGION}:{Aws.ACCOUNT_ID}:{kind}/{name}"

    def _let_plan(self) -> None:
        """Read the registry and the endpoints."""
        packages = [self._arn("model-package", f"{name}/*") for name in self.groups]
        endpoints = [self._arn("endpoint", name) for name in self.endpoints]
        configs = [self._arn("endpoint-config", f"{name}-*") for name in self.groups]
        for sid, allowed, resources in (
            # A list is asked about no single version: the action knows no resource.
            ("ListVersions", ["sagemaker:ListModelPackages"], ["*"]),
            ("ReadVersions", ["sagemaker:DescribeModelPackage"], packages),
            ("ReadEndpoints", ["sagemaker:DescribeEndpoint"], endpoints),
            ("ReadMarks", ["sagemaker:ListTags"], configs),
        ):
            self.function.allow(*allowed, on=resources, sid=sid)

    def _let_deploy(self, inference_role: iam.IRole) -> None:
        """Models and configurations of these groups' versions, these endpoints, their scaling; nothing else."""
        models = [self._arn("model", f"{name}-*") for name in self.groups]
        configs = [self._arn("endpoint-config", f"{name}-*") for name in self.groups]
        endpoints = [self._arn("endpoint", name) for name in self.endpoints]
        packages = [self._arn("model-package", f"{name}/*") for name in self.groups]
        alarms = [alarm.alarm_arn for found in self.alarms.values() for alarm in found]
        changing = ["sagemaker:UpdateEndpoint", "sagemaker:DescribeEndpoint", "sagemaker:DeleteEndpoint"]
        for sid, allowed, resources in (
            ("CreateModels", ["sagemaker:CreateModel"], models),
            ("ReadVersions", ["sagemaker:DescribeModelPackage"], packages),
            ("CreateConfigs", ["sagemaker:CreateEndpointConfig"], configs),
            ("Endpoints", ["sagemaker:CreateEndpoint", *changing], [*endpoints, *configs]),
            ("Tag", ["sagemaker:AddTags"], [*models, *configs, *endpoints]),
            ("ReadAlarms", ["cloudwatch:DescribeAlarms"], alarms),
        ):
            self.machine.add_to_role_policy(iam.PolicyStatement(sid=sid, actions=allowed, resources=resources))
        self.machine.add_to_role_policy(
            iam.PolicyStatement(
                sid="PassInferenceRole",
                actions=["iam:PassRole"],
                resources=[inference_role.role_arn],
                conditions={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
            )
        )
        self._let_scale(endpoints)

    def _let_scale(self, endpoints: list[str]) -> None:
        """Application Auto Scaling checks that its caller may change what it is to scale."""
        role = "role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com"
        name = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
        linked = f"arn:{Aws.PARTITION}:iam::{Aws.ACCOUNT_ID}:{role}/{name}"
        variants = [f"{arn}/variant/*" for arn in endpoints]
        alarms = f"arn:{Aws.PARTITION}:cloudwatch:{Aws.REGION}:{Aws.ACCOUNT_ID}:alarm:TargetTracking-endpoint/*"
        for sid, allowed, resources, conditions in (
            (
                "RegisterScaling",
                ["application-autoscaling:RegisterScalableTarget", "application-autoscaling:PutScalingPolicy"],
                [f"arn:{Aws.PARTITION}:application-autoscaling:{Aws.REGION}:{Aws.ACCOUNT_ID}:scalable-target/*"],
                {"StringEquals": {"application-autoscaling:service-namespace": "sagemaker"}},
            ),
            ("Scale", ["sagemaker:UpdateEndpointWeightsAndCapacities"], [*endpoints, *variants], None),
            ("ScalingAlarms", ["cloudwatch:PutMetricAlarm", "cloudwatch:DeleteAlarms"], [alarms], None),
            (
                "ScalingRole",
                ["iam:CreateServiceLinkedRole"],
                [linked],
                {"StringEquals": {"iam:AWSServiceName": "sagemaker.application-autoscaling.amazonaws.com"}},
            ),
        ):
            self.machine.add_to_role_policy(
                iam.PolicyStatement(sid=sid, actions=allowed, resources=resources, conditions=conditions)
            )

    def _on_decisions(self, dead_letters: sqs.IQueue) -> None:
        rule = events.Rule(
            self,
            "Decisions",
            rule_name="medloop-model-decisions",
            description="A model version waits for a decision, or was decided upon",
            event_pattern=events.EventPattern(
                source=["aws.sagemaker"],
                detail_type=["SageMaker Model Package State Change"],
                detail={
                    "ModelPackageGroupName": self.groups,
                    "ModelApprovalStatus": ["Approved", "PendingManualApproval", "Rejected"],
                },
            ),
        )
        rule.add_target(
            targets.SfnStateMachine(
                self.machine, dead_letter_queue=dead_letters, retry_attempts=24, max_event_age=Duration.hours(24)
            )
        )


def approval_definition(hosting: Hosting) -> str:
    """The state machine, its requests with the parameters that this hosting gives: a path in it must exist."""
    document = json.loads(DEFINITION.read_text(encoding="utf-8"))
    model, config = named_requests(hosting, "group", 1, "package", "role", "folder")
    for state, request in (("CreateModel", model), ("CreateConfig", config)):
        given = document["States"][state]["Parameters"]
        if unknown := {*request} - {name.removesuffix(".$") for name in given}:
            raise ValueError(f"{DEFINITION.name}: {state} passes on no {', '.join(sorted(unknown))}")
        used = {*request, "Tags"}
        document["States"][state]["Parameters"] = {n: v for n, v in given.items() if n.removesuffix(".$") in used}
    return json.dumps(document)


def endpoint_metric(endpoint: str, name: str, statistic: str, period: Duration) -> cloudwatch.Metric:
    """A metric of the endpoint's one variant."""
    return cloudwatch.Metric(
        namespace="AWS/SageMaker",
        metric_name=name,
        dimensions_map={"EndpointName": endpoint, "VariantName": VARIANT},
        statistic=statistic,
        period=period,
    )
