"""Metrics and alarms, with the defaults that all of the stack's share."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct

FIVE_MINUTES = Duration.minutes(5)


def metric(
    namespace: str, name: str, dimensions: Mapping[str, str], statistic: str = "Sum", period: Duration = FIVE_MINUTES
) -> cloudwatch.Metric:
    """A metric of the stack's own region and account."""
    return cloudwatch.Metric(
        namespace=namespace, metric_name=name, dimensions_map=dict(dimensions), statistic=statistic, period=period
    )


def alarm(
    scope: Construct,
    name: str,
    description: str,
    watched: cloudwatch.IMetric,
    topic: sns.ITopic,
    *,
    threshold: float = 0,
    evaluation_periods: int = 1,
    datapoints_to_alarm: int | None = None,
    below: bool = False,
) -> cloudwatch.Alarm:
    """An alarm that notifies a topic.

    Args:
        scope: CDK's parent.
        name: The alarm's name, and CDK's id.
        description: Names the runbook's entry.
        watched: The metric; missing data are no breach.
        topic: Notified of the alarm.
        threshold: Breached by values above it.
        evaluation_periods: Periods that are compared with the threshold.
        datapoints_to_alarm: How many of them must breach; None: all.
        below: Breached by values below the threshold instead.
    """
    operators = cloudwatch.ComparisonOperator
    made = cloudwatch.Alarm(
        scope,
        name,
        alarm_name=name,
        alarm_description=description,
        metric=watched,
        threshold=threshold,
        comparison_operator=operators.LESS_THAN_THRESHOLD if below else operators.GREATER_THAN_THRESHOLD,
        evaluation_periods=evaluation_periods,
        datapoints_to_alarm=datapoints_to_alarm,
        treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
    )
    made.add_alarm_action(actions.SnsAction(topic))
    return made
