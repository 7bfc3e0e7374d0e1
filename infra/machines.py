"""State machines whose definition is a file in the Amazon States Language, each with the function that it invokes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aws_cdk import Aws, Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.functions import PythonFunction
from infra.grants import OWN_ACCOUNT, allow, make_role, service, statement

DAY = Duration.hours(24)
MAX_TARGETS = 5
"""Of one rule: EventBridge's limit."""


def state_machine(
    scope: Construct,
    construct_id: str,
    *,
    name: str,
    definition: str,
    function: PythonFunction,
    topics: Mapping[str, sns.ITopic],
) -> sfn.StateMachine:
    """Make a state machine with its role, an encrypted log, and traces.

    It may invoke the function and publish to the topics, and nothing else yet.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        name: Its name.
        definition: In the Amazon States Language; `${FunctionArn}` and the topics' names in it stand for ARNs.
        function: The function that it invokes, and with which it shares key and logs.
        topics: Topics that it publishes to, by the name in the definition.
    """
    around, function_arn = function.around, function.function.function_arn
    log = logs.LogGroup(
        scope,
        f"{construct_id}Log",
        # The prefix keeps the account's resource policy of logs from growing beyond its limit.
        log_group_name=f"/aws/vendedlogs/states/{name}",
        encryption_key=around.key,
        retention=around.log_retention,
    )
    # Given by its ARN: with the key itself, CDK would let it be used by `kms:Decrypt*`.
    by_arn = kms.Key.from_key_arn(scope, f"{construct_id}Key", around.key.key_arn)
    delivery, sid = [service("delivery.logs")], f"Deliver{construct_id}Log"
    around.key.add_to_resource_policy(statement(sid, ["kms:Decrypt"], conditions=OWN_ACCOUNT, principals=delivery))
    arns = {topic_name: topic.topic_arn for topic_name, topic in topics.items()}
    machine = sfn.StateMachine(
        scope,
        construct_id,
        state_machine_name=name,
        definition_body=sfn.DefinitionBody.from_string(definition),
        definition_substitutions={"Partition": Aws.PARTITION, "FunctionArn": function_arn, **arns},
        logs=sfn.LogOptions(destination=log, level=sfn.LogLevel.ALL, include_execution_data=False),
        tracing_enabled=True,
        encryption_configuration=sfn.CustomerManagedEncryptionConfiguration(by_arn),
    )
    by_sns = {"StringEquals": {"kms:ViaService": f"sns.{Aws.REGION}.amazonaws.com"}}
    allow(
        machine,
        # Topics are encrypted with the key; a publisher uses the key through SNS.
        statement("EncryptNotifications", ["kms:Decrypt", "kms:GenerateDataKey"], [around.key.key_arn], by_sns),
        # Spelled out: CDK's grants add stars (versions of the function, kms:GenerateDataKey*).
        statement("Ask", ["lambda:InvokeFunction"], [function_arn]),
        statement("Tell", ["sns:Publish"], list(arns.values())),
    )
    return machine


def start_on(
    scope: Construct,
    construct_id: str,
    *,
    name: str,
    description: str,
    machine: sfn.StateMachine,
    dead_letters: sqs.IQueue,
    pattern: events.EventPattern | None = None,
    bus: events.IEventBus | None = None,
    daily_inputs: Sequence[dict[str, str]] = (),
) -> None:
    """Start a state machine on events, or every day; an event that can't be delivered within a day goes to the queue.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id of the rule.
        name: The rule's name.
        description: The rule's description.
        machine: What is started.
        dead_letters: Keeps events that could not be delivered.
        pattern: Which events; None: the clock's, every day.
        bus: The bus of the events; None: the account's default.
        daily_inputs: Every day the state machine starts once with each; a rule takes MAX_TARGETS at most.
    """
    schedule = None if pattern else events.Schedule.rate(DAY)
    rule = events.Rule(
        scope,
        construct_id,
        rule_name=name,
        description=description,
        event_pattern=pattern,
        event_bus=bus,
        schedule=schedule,
    )
    # A role of our own: CDK's could be assumed on behalf of another account.
    role = make_role(rule, "events", f"medloop: the rule {name} starts its state machine")
    # None: the event itself.
    inputs = [None] if pattern else [events.RuleTargetInput.from_object(content) for content in daily_inputs]
    for content in inputs:
        target = targets.SfnStateMachine(
            machine, input=content, role=role, dead_letter_queue=dead_letters, retry_attempts=24, max_event_age=DAY
        )
        rule.add_target(target)
