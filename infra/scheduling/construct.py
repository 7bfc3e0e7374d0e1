"""Retraining by the clock and on new data, both through one guard."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from aws_cdk import Aws, CfnOutput, Duration
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.functions import PythonFunction
from infra.machines import state_machine
from infra.scheduling.guard import MANIFEST, RAW
from infra.settings import ScheduleSettings

DEFINITION = Path(__file__).with_name("retraining.asl.json")
CODE = (
    "infra/scheduling/__init__.py",
    "infra/scheduling/guard.py",
    "medloop/__init__.py",
    "medloop/errors.py",
    "medloop/input_data.py",
    "medloop/metadata.py",
)
"""The guard's function: standard library, and what `medloop run` computes DataVersion with."""


class Scheduling(Construct):
    """The guard, what starts it, and the role that schedules start it with."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        pipelines: Sequence[str],
        schedules: Sequence[ScheduleSettings],
        data_bucket: s3.IBucket,
        artefact_bucket: s3.IBucket,
        key: kms.IKey,
        operations: sns.ITopic,
        dead_letters: sqs.IQueue,
        log_retention: logs.RetentionDays,
        vpc: ec2.IVpc | None = None,
        security_group: ec2.ISecurityGroup | None = None,
    ) -> None:
        """Make it.

        Args:
            scope: Where in the tree.
            construct_id: Under which name there.
            pipelines: The pipelines that may be started.
            schedules: Schedules of the stack's own.
            data_bucket: Holds raw/<pipeline>/<data set>/; it must send its events to EventBridge.
            artefact_bucket: May hold data sets too (`medloop run` names it as the place for uploads).
            key: Encrypts logs, executions of the guard, and schedules.
            operations: Who is told of a retraining that was not started.
            dead_letters: Events that could not be delivered.
            log_retention: How long logs are kept.
            vpc: Where the function runs; None: in Lambda's own network.
            security_group: Of the VPC.
        """
        super().__init__(scope, construct_id)
        arns = [f"arn:{Aws.PARTITION}:sagemaker:{Aws.REGION}:{Aws.ACCOUNT_ID}:pipeline/{name}" for name in pipelines]
        self.function = PythonFunction(
            self,
            "Look",
            function_name="medloop-guard",
            description="Whether a trigger may start its pipeline now",
            files=CODE,
            handler="infra/scheduling/guard.handler",
            key=key,
            log_retention=log_retention,
            timeout=Duration.minutes(2),
            vpc=vpc,
            security_group=security_group,
        )
        self._let_look(arns, [data_bucket, artefact_bucket])
        self.guard = state_machine(
            self,
            "Guard",
            name="medloop-retraining",
            definition=DEFINITION.read_text(encoding="utf-8"),
            key=key,
            log_retention=log_retention,
            values={
                "GuardFunctionArn": self.function.function.function_arn,
                "OperationsTopicArn": operations.topic_arn,
            },
        )
        # Spelled out: CDK's grants add stars (versions of the function, kms:GenerateDataKey*).
        for sid, action, resources in (
            ("Look", "lambda:InvokeFunction", [self.function.function.function_arn]),
            ("Tell", "sns:Publish", [operations.topic_arn]),
            ("StartPipelines", "sagemaker:StartPipelineExecution", arns),
        ):
            self.guard.add_to_role_policy(iam.PolicyStatement(sid=sid, actions=[action], resources=resources))
        self.role = self._scheduler_role(dead_letters, key)
        self._on_new_data(pipelines, data_bucket, dead_letters)
        for schedule in schedules:
            self._schedule(schedule, dead_letters, key)
        CfnOutput(self, "GuardArn", value=self.guard.state_machine_arn, description="MEDLOOP_GUARD_ARN")
        CfnOutput(self, "SchedulerRoleArn", value=self.role.role_arn, description="MEDLOOP_SCHEDULER_ROLE_ARN")
        CfnOutput(self, "DeadLettersArn", value=dead_letters.queue_arn, description="MEDLOOP_DEAD_LETTERS_ARN")

    def _let_look(self, pipelines: list[str], buckets: list[s3.IBucket]) -> None:
        """List data, and read what executions there were; no object is read, and nothing is changed."""
        listed = [bucket.bucket_arn for bucket in buckets]
        self.function.allow("s3:ListBucket", on=listed, sid="ListData")
        self.function.allow(
            "sagemaker:DescribePipeline",
            "sagemaker:ListPipelineExecutions",
            "sagemaker:ListPipelineParametersForExecution",
            on=[*pipelines, *(f"{arn}/execution/*" for arn in pipelines)],
            sid="ReadExecutions",
        )

    def _scheduler_role(self, dead_letters: sqs.IQueue, key: kms.IKey) -> iam.Role:
        """Schedules of this account start the guard, and nothing else: the guard alone starts pipelines."""
        service = iam.ServicePrincipal(
            "scheduler.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
        )
        role = iam.Role(self, "SchedulerRole", assumed_by=service, description="Schedules start the retraining guard")
        self.guard.grant_start_execution(role)
        for sid, actions, resource in (
            ("KeepUndelivered", ["sqs:SendMessage"], dead_letters.queue_arn),
            ("UseKey", ["kms:Decrypt", "kms:GenerateDataKey"], key.key_arn),
        ):
            role.add_to_policy(iam.PolicyStatement(sid=sid, actions=actions, resources=[resource]))
        return role

    def _on_new_data(self, pipelines: Sequence[str], bucket: s3.IBucket, dead_letters: sqs.IQueue) -> None:
        rule = events.Rule(
            self,
            "NewData",
            rule_name="medloop-new-data",
            description="A data set's manifest has arrived: its pipeline may be started",
            event_pattern=events.EventPattern(
                source=["aws.s3"],
                detail_type=["Object Created"],
                detail={
                    "bucket": {"name": [bucket.bucket_name]},
                    "object": {"key": [{"wildcard": f"{RAW}/{name}/*/{MANIFEST}"} for name in pipelines]},
                },
            ),
        )
        rule.add_target(
            targets.SfnStateMachine(
                self.guard, dead_letter_queue=dead_letters, retry_attempts=24, max_event_age=Duration.hours(24)
            )
        )

    def _schedule(self, schedule: ScheduleSettings, dead_letters: sqs.IQueue, key: kms.IKey) -> None:
        parameters = {"InputData": schedule.data, **schedule.parameters}
        request = {
            "PipelineName": schedule.pipeline,
            "PipelineExecutionDescription": f"schedule {schedule.name}",
            "PipelineParameters": [{"Name": name, "Value": value} for name, value in sorted(parameters.items())],
        }
        made = scheduler.CfnSchedule(
            self,
            f"Schedule-{schedule.name}",
            name=f"medloop-{schedule.name}",
            description=f"Starts pipeline {schedule.pipeline}",
            schedule_expression=schedule.expression,
            schedule_expression_timezone=schedule.timezone,
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            kms_key_arn=key.key_arn,
            target=scheduler.CfnSchedule.TargetProperty(
                arn=self.guard.state_machine_arn,
                role_arn=self.role.role_arn,
                input=json.dumps(request, sort_keys=True),
                dead_letter_config=scheduler.CfnSchedule.DeadLetterConfigProperty(arn=dead_letters.queue_arn),
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_event_age_in_seconds=3600, maximum_retry_attempts=3
                ),
            ),
        )
        # A schedule waits for its role, not for the role's policy.
        made.node.add_dependency(self.role)
