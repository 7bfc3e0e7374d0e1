"""Retraining by the clock and on new data, both through one guard."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra.functions import PythonFunction, Surroundings
from infra.grants import allow, make_role, sagemaker_arns, statement
from infra.machines import start_on, state_machine
from infra.scheduling.guard import RAW
from infra.settings import ScheduleSettings
from medloop.input_data import MANIFEST

DEFINITION = Path(__file__).with_name("retraining.asl.json")
RULE = "medloop-new-data"
CODE = (
    "infra/scheduling/__init__.py",
    "infra/scheduling/guard.py",
    "medloop/__init__.py",
    "medloop/errors.py",
    "medloop/input_data.py",
    "medloop/s3_uri.py",
    "medloop/documents/__init__.py",
    "medloop/documents/file_names.py",
    "medloop/documents/metadata.py",
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
        operations: sns.ITopic,
        around: Surroundings,
    ) -> None:
        """Make it.

        Args:
            scope: Where in the tree.
            construct_id: Under which name there.
            pipelines: The pipelines that may be started.
            schedules: Schedules of the stack's own.
            data_bucket: Holds raw/<pipeline>/<data set>/; it must send its events to EventBridge.
            artefact_bucket: May hold data sets too (`medloop run` names it as the place for uploads).
            operations: The topic for retrainings that were not started.
            around: Key (of schedules, too), logs, dead letters, network.
        """
        super().__init__(scope, construct_id)
        self.around = around
        arns = sagemaker_arns("pipeline", pipelines)
        self.function = PythonFunction(
            self,
            "Look",
            function_name="medloop-guard",
            description="Whether a trigger may start its pipeline now",
            files=CODE,
            handler="infra/scheduling/guard.handler",
            # A listing of a million objects takes minutes.
            timeout=Duration.minutes(10),
            around=around,
        )
        self.guard = state_machine(
            self,
            "Guard",
            name="medloop-retraining",
            definition=DEFINITION.read_text(encoding="utf-8"),
            function=self.function,
            topics={"OperationsTopicArn": operations},
        )
        # The function lists data, and reads the executions so far; it reads no object, and changes nothing.
        history = ("DescribePipeline", "ListPipelineExecutions", "ListPipelineParametersForExecution")
        executions = [*arns, *(f"{arn}/execution/*" for arn in arns)]
        allow(
            self.function.role,
            statement("ListData", ["s3:ListBucket"], [data_bucket.bucket_arn, artefact_bucket.bucket_arn]),
            statement("ReadExecutions", [f"sagemaker:{verb}" for verb in history], executions),
        )
        allow(self.guard, statement("StartPipelines", ["sagemaker:StartPipelineExecution"], arns))
        self.role = self._scheduler_role()
        self._on_new_data(pipelines, data_bucket)
        for schedule in schedules:
            self._schedule(schedule)

    def _scheduler_role(self) -> iam.Role:
        """Schedules of this account start the guard, and nothing else: only the guard starts pipelines."""
        role = make_role(self, "scheduler", "Schedules start the retraining guard", construct_id="SchedulerRole")
        self.guard.grant_start_execution(role)
        allow(
            role,
            statement("KeepUndelivered", ["sqs:SendMessage"], [self.around.dead_letters.queue_arn]),
            statement("UseKey", ["kms:Decrypt", "kms:GenerateDataKey"], [self.around.key.key_arn]),
        )
        return role

    def _on_new_data(self, pipelines: Sequence[str], bucket: s3.IBucket) -> None:
        pattern = events.EventPattern(
            source=["aws.s3"],
            detail_type=["Object Created"],
            detail={
                "bucket": {"name": [bucket.bucket_name]},
                "object": {"key": [{"wildcard": f"{RAW}/{name}/*/{MANIFEST}"} for name in pipelines]},
            },
        )
        start_on(
            self,
            "NewData",
            name=RULE,
            description="A data set's manifest has arrived: its pipeline may be started",
            pattern=pattern,
            machine=self.guard,
            dead_letters=self.around.dead_letters,
        )

    def _schedule(self, schedule: ScheduleSettings) -> None:
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
            kms_key_arn=self.around.key.key_arn,
            target=scheduler.CfnSchedule.TargetProperty(
                arn=self.guard.state_machine_arn,
                role_arn=self.role.role_arn,
                input=json.dumps(request, sort_keys=True),
                dead_letter_config=scheduler.CfnSchedule.DeadLetterConfigProperty(
                    arn=self.around.dead_letters.queue_arn
                ),
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_event_age_in_seconds=3600, maximum_retry_attempts=3
                ),
            ),
        )
        # A schedule waits for its role, not for the role's policy.
        made.node.add_dependency(self.role)
