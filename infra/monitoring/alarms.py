"""Alarms of what any of the stacks has: state machines, functions, events that could not be delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.monitoring.metrics import FIVE_MINUTES, alarm, metric


class Alarms(Construct):
    """Alarms that notify operations.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        operations: The topic for notifications.
    """

    def __init__(self, scope: Construct, construct_id: str, *, operations: sns.ITopic) -> None:
        super().__init__(scope, construct_id)
        self.operations = operations

    def add(
        self,
        name: str,
        entry: str,
        meaning: str,
        watched: cloudwatch.IMetric,
        threshold: float = 0,
        below: bool = False,
    ) -> None:
        """An alarm above a threshold, or below; its description names the runbook's entry."""
        description = f"Runbook: {entry}. {meaning}"
        alarm(self, name, description, watched, self.operations, threshold=threshold, below=below)

    def add_machine(self, entry: str, machine: sfn.IStateMachine) -> None:
        """An execution that failed, timed out or was stopped."""
        bad: dict[str, cloudwatch.IMetric] = {
            "failed": machine.metric_failed(period=FIVE_MINUTES),
            "late": machine.metric_timed_out(period=FIVE_MINUTES),
            "aborted": machine.metric_aborted(period=FIVE_MINUTES),
        }
        meaning = "An execution of the state machine failed, timed out or was stopped."
        self.add(entry, entry, meaning, _total("failed + late + aborted", bad))

    def add_functions(self, functions: Sequence[lambda_.IFunction]) -> None:
        """An error of any of the functions."""
        errors = {f"e{number}": each.metric_errors(period=FIVE_MINUTES) for number, each in enumerate(functions)}
        name = "medloop-function-errors"
        self.add(name, name, "A function ended with an error.", _total(" + ".join(errors), errors))

    def add_dead_letters(self, queue: sqs.IQueue, rules: Sequence[str]) -> None:
        """Messages in the queue, and failures to store one."""
        lost = {
            f"r{number}": metric("AWS/Events", "InvocationsFailedToBeSentToDlq", {"RuleName": rule})
            for number, rule in enumerate(rules)
        }
        # Schedules of `medloop schedules` and of the stack are in the account's default group.
        failures = "InvocationsFailedToBeSentToDeadLetterCount"
        lost["s"] = metric("AWS/Scheduler", failures, {"ScheduleGroup": "default"})
        total, entry = _total(" + ".join(f"FILL({name}, 0)" for name in lost), lost), "medloop-dead-letters"
        self.add("medloop-events-lost", entry, "An event is lost, the queue did not take it.", total)
        waiting = queue.metric_approximate_number_of_messages_visible(period=FIVE_MINUTES, statistic="Maximum")
        self.add(entry, entry, "An event could not be delivered.", waiting)


def _total(expression: str, metrics: Mapping[str, cloudwatch.IMetric]) -> cloudwatch.MathExpression:
    return cloudwatch.MathExpression(expression=expression, using_metrics=dict(metrics), period=FIVE_MINUTES)
