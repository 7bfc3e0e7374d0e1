"""Monitoring for operations: a dashboard, alarms with a runbook entry each, budget, cost anomalies, and the trail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aws_cdk import Aws, Duration, Stack
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_ce as ce
from aws_cdk import aws_cloudtrail as cloudtrail
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.deployment.construct import NAMESPACE, endpoint_metric
from infra.deployment.plan import DIMENSION, SCORE, SCORE_CHANGE
from infra.grants import arn, service, statement
from infra.monitoring.alarms import Alarms
from infra.monitoring.metrics import FIVE_MINUTES, metric
from infra.settings import MonitoringSettings

PIPELINES = "AWS/Sagemaker/ModelBuildingPipeline"
"""CloudWatch's namespace of pipelines, in the service's own spelling."""
HOUR = Duration.hours(1)


class Monitoring(Alarms):
    """Dashboard, alarms, budget, cost anomalies, trail."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        pipelines: Sequence[str],
        groups: Sequence[str],
        endpoints: Sequence[str],
        machines: Mapping[str, sfn.IStateMachine],
        functions: Sequence[lambda_.IFunction],
        operations: sns.ITopic,
        dead_letters: sqs.IQueue,
        rules: Sequence[str],
        limits: MonitoringSettings,
        tags: Mapping[str, Sequence[str]],
        key: kms.Key,
        trail_bucket: s3.IBucket,
        watched_buckets: Sequence[s3.IBucket],
        log_retention: logs.RetentionDays,
    ) -> None:
        """Make it.

        Args:
            scope: CDK's parent.
            construct_id: CDK's id.
            pipelines: Names of the pipelines.
            groups: Names of the model package groups.
            endpoints: Names of the endpoints.
            machines: State machines by the runbook entry of their failure.
            functions: The stack's functions.
            operations: The topic for notifications.
            dead_letters: Events that could not be delivered.
            rules: Names of the rules whose events those are.
            limits: What is too much.
            tags: Names and values that the stack's resources, and pipelines' jobs, are known by in the bill.
            key: Encrypts the trail.
            trail_bucket: The trail's bucket.
            watched_buckets: Whose objects' reads and writes are in the trail.
            log_retention: How long the trail's log is kept.
        """
        super().__init__(scope, construct_id, operations=operations)
        for name in pipelines:
            self._pipeline_alarms(name, limits)
        for entry, machine in machines.items():
            self.add_machine(entry, machine)
        for group in groups:
            self._drift_alarm(group, limits)
        self.add_functions(functions)
        self.add_dead_letters(dead_letters, rules)
        self._budget(limits, tags)
        self._anomalies(limits, tags)
        self._trail(key, trail_bucket, watched_buckets, log_retention)
        self._dashboard(pipelines, groups, endpoints, machines, dead_letters)

    def _pipeline_alarms(self, name: str, limits: MonitoringSettings) -> None:
        failed = pipeline_metric(name, "ExecutionFailed")
        self.add(f"medloop-{name}-failed", "medloop-execution-failed", "An execution failed.", failed)
        longest = pipeline_metric(name, "ExecutionDuration", "Maximum", HOUR)
        meaning = f"An execution took more than {limits.execution_hours} hours."
        # The service measures it in milliseconds.
        threshold = limits.execution_hours * 3_600_000
        self.add(f"medloop-{name}-long", "medloop-execution-long", meaning, longest, threshold)

    def _drift_alarm(self, group: str, limits: MonitoringSettings) -> None:
        """A model of today's data that scores worse than that in production did: the data have changed."""
        meaning = f"A new version scored lower than the one in production, by more than {limits.score_drop}."
        change = version_metric(group, SCORE_CHANGE)
        self.add(f"{group}-drift", "medloop-drift", meaning, change, -limits.score_drop, below=True)

    def _budget(self, limits: MonitoringSettings, tags: Mapping[str, Sequence[str]]) -> None:
        """Resources with one of the tags."""
        subscriber = budgets.CfnBudget.SubscriberProperty(subscription_type="SNS", address=self.operations.topic_arn)
        thresholds = [("ACTUAL", 80), ("FORECASTED", 100)]
        budgets.CfnBudget(
            self,
            "Budget",
            budget=budgets.CfnBudget.BudgetDataProperty(
                budget_name="medloop-budget",
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(amount=limits.monthly_dollars, unit="USD"),
                cost_filters={"TagKeyValue": [f"user:{name}${value}" for name in tags for value in tags[name]]},
            ),
            notifications_with_subscribers=[
                budgets.CfnBudget.NotificationWithSubscribersProperty(
                    notification=budgets.CfnBudget.NotificationProperty(
                        comparison_operator="GREATER_THAN",
                        notification_type=kind,
                        threshold=percent,
                        threshold_type="PERCENTAGE",
                    ),
                    subscribers=[subscriber],
                )
                for kind, percent in thresholds
            ],
        )

    def _anomalies(self, limits: MonitoringSettings, tags: Mapping[str, Sequence[str]]) -> None:
        """Monitors by tag, one a tag: an account has one of all services already, and may have no second."""
        text = Stack.of(self).to_json_string
        monitors = [
            ce.CfnAnomalyMonitor(
                self,
                f"AnomalyMonitor{number or ''}",
                monitor_name=f"medloop-cost-anomaly{f'-{number}' if number else ''}",
                monitor_type="CUSTOM",
                monitor_specification=text({"Tags": {"Key": name, "Values": list(values)}}),
            )
            for number, (name, values) in enumerate(tags.items())
        ]
        above = {
            "Dimensions": {
                "Key": "ANOMALY_TOTAL_IMPACT_ABSOLUTE",
                "MatchOptions": ["GREATER_THAN_OR_EQUAL"],
                "Values": [str(limits.anomaly_dollars)],
            }
        }
        ce.CfnAnomalySubscription(
            self,
            "AnomalySubscription",
            subscription_name="medloop-cost-anomaly",
            frequency="IMMEDIATE",
            monitor_arn_list=[monitor.attr_monitor_arn for monitor in monitors],
            threshold_expression=text(above),
            subscribers=[ce.CfnAnomalySubscription.SubscriberProperty(type="SNS", address=self.operations.topic_arn)],
        )

    def _trail(
        self, key: kms.Key, bucket: s3.IBucket, watched: Sequence[s3.IBucket], log_retention: logs.RetentionDays
    ) -> None:
        """Record every API call with its caller, reads and writes of objects included."""
        log = logs.LogGroup(
            self,
            "TrailLog",
            log_group_name="/medloop/trail",
            encryption_key=key,
            retention=log_retention,
        )
        name = "medloop"
        by_trail, trail_arn = [service("cloudtrail")], arn("cloudtrail", f"trail/{name}")
        using = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"]
        key.add_to_resource_policy(
            statement("Trail", using, conditions={"StringEquals": {"aws:SourceArn": trail_arn}}, principals=by_trail)
        )
        # CDK lets the service in, for any trail.
        by_other_trails = {"StringNotEquals": {"aws:SourceArn": trail_arn}}
        objects = [bucket.arn_for_objects("*")]
        bucket.add_to_resource_policy(
            statement("NoOtherTrail", ["s3:PutObject"], objects, by_other_trails, principals=by_trail, deny=True)
        )
        trail = cloudtrail.Trail(
            self,
            "Trail",
            trail_name=name,
            bucket=bucket,
            s3_key_prefix="trail",
            encryption_key=key,
            enable_file_validation=True,
            is_multi_region_trail=True,
            include_global_service_events=True,
            send_to_cloud_watch_logs=True,
            cloud_watch_log_group=log,
        )
        trail.add_s3_event_selector(
            [cloudtrail.S3EventSelector(bucket=each) for each in watched],
            include_management_events=True,
            read_write_type=cloudtrail.ReadWriteType.ALL,
        )

    def _dashboard(
        self,
        pipelines: Sequence[str],
        groups: Sequence[str],
        endpoints: Sequence[str],
        machines: Mapping[str, sfn.IStateMachine],
        dead_letters: sqs.IQueue,
    ) -> None:
        def graph(title: str, metrics: Sequence[cloudwatch.IMetric], region: str | None = None) -> cloudwatch.IWidget:
            return cloudwatch.GraphWidget(title=title, left=list(metrics), width=12, region=region)

        executions = ("ExecutionStarted", "ExecutionSucceeded", "ExecutionFailed")
        board = cloudwatch.Dashboard(self, "Dashboard", dashboard_name="medloop", default_interval=Duration.days(7))
        board.add_widgets(
            graph("Executions", [pipeline_metric(p, name, period=HOUR) for p in pipelines for name in executions]),
            graph("Duration (ms)", [pipeline_metric(p, "ExecutionDuration", "Maximum", HOUR) for p in pipelines]),
            graph("Retraining and deployment", [m.metric_failed(label=entry) for entry, m in machines.items()]),
            graph("Undelivered events", [dead_letters.metric_approximate_number_of_messages_visible()]),
            graph("Requests", [endpoint_metric(e, "Invocations") for e in endpoints]),
            graph("Latency of the model (µs, p99)", [endpoint_metric(e, "ModelLatency", "p99") for e in endpoints]),
            graph(
                "Errors",
                [
                    endpoint_metric(e, name)
                    for e in endpoints
                    for name in ("Invocation4XXErrors", "Invocation5XXErrors")
                ],
            ),
            graph(
                "Drift (score of new versions; change against production)",
                [version_metric(group, name) for group in groups for name in (SCORE, SCORE_CHANGE)],
            ),
            graph("Charges of this month (USD, SageMaker)", [_charges()], "us-east-1"),
        )


def pipeline_metric(
    pipeline: str, name: str, statistic: str = "Sum", period: Duration = FIVE_MINUTES
) -> cloudwatch.Metric:
    """A metric of a pipeline's executions."""
    return metric(PIPELINES, name, {"PipelineName": pipeline}, statistic, period)


def version_metric(group: str, name: str) -> cloudwatch.Metric:
    """A metric of versions that wait for a decision, put by the approval's state machine (infra/deployment/plan.py)."""
    return metric(NAMESPACE, name, {DIMENSION: group}, "Minimum", HOUR)


def _charges() -> cloudwatch.Metric:
    """Billing's metrics are in one region, independent of the stack's."""
    return cloudwatch.Metric(
        namespace="AWS/Billing",
        metric_name="EstimatedCharges",
        dimensions_map={"Currency": "USD", "ServiceName": "AmazonSageMaker"},
        statistic="Maximum",
        period=Duration.hours(6),
        region="us-east-1",
        account=Aws.ACCOUNT_ID,
    )
