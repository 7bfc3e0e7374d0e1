"""State machines whose definition is a file in the Amazon States Language, each with the function that it asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aws_cdk import Aws, Duration
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.functions import PythonFunction

DAY = Duration.hours(24)


@dataclass(frozen=True)
class Surroundings:
    """What state machines and their functions have around them.

    Args:
        key: Encrypts logs, functions' environment and executions.
        log_retention: How long logs are kept.
        dead_letters: Events that could not be delivered.
        vpc: Where functions run; None: in Lambda's own network.
        security_group: Of the VPC.
    """

    key: kms.IKey
    log_retention: logs.RetentionDays
    dead_letters: sqs.IQueue
    vpc: ec2.IVpc | None = None
    security_group: ec2.ISecurityGroup | None = None


@dataclass(frozen=True)
class Function:
    """The function that a state machine asks what is to be done.

    Args:
        construct_id: Its place in the tree.
        name: Its name.
        description: What it answers.
        files: Repository paths of its code.
        handler: `path/of/file.function`.
        timeout: How long an answer may take.
        environment: Environment variables.
    """

    construct_id: str
    name: str
    description: str
    files: Sequence[str]
    handler: str
    timeout: Duration
    environment: Mapping[str, str] = field(default_factory=dict)


def asking_machine(
    scope: Construct,
    construct_id: str,
    *,
    name: str,
    definition: str,
    function: Function,
    topics: Mapping[str, sns.ITopic],
    around: Surroundings,
) -> tuple[PythonFunction, sfn.StateMachine]:
    """A state machine and its function; it may ask the function and tell the topics, and nothing else yet.

    Args:
        scope: Where in the tree.
        construct_id: The state machine's place there.
        name: Its name.
        definition: In the Amazon States Language; `${FunctionArn}` and the topics' names in it stand for ARNs.
        function: What it asks.
        topics: Whom it tells, by the name in the definition.
        around: Key, logs, network.
    """
    made = PythonFunction(
        scope,
        function.construct_id,
        function_name=function.name,
        description=function.description,
        files=function.files,
        handler=function.handler,
        key=around.key,
        log_retention=around.log_retention,
        timeout=function.timeout,
        environment=function.environment,
        vpc=around.vpc,
        security_group=around.security_group,
    )
    arn = made.function.function_arn
    values = {"FunctionArn": arn, **{topic_name: topic.topic_arn for topic_name, topic in topics.items()}}
    machine = _state_machine(scope, construct_id, name=name, definition=definition, around=around, values=values)
    # Spelled out: CDK's grants add stars (versions of the function, kms:GenerateDataKey*).
    allow(machine, "Ask", ["lambda:InvokeFunction"], [arn])
    allow(machine, "Tell", ["sns:Publish"], [topic.topic_arn for topic in topics.values()])
    return made, machine


def allow(
    machine: sfn.StateMachine,
    sid: str,
    actions: Sequence[str],
    resources: Sequence[str],
    conditions: Mapping[str, object] | None = None,
) -> None:
    """Let a state machine do something.

    Args:
        machine: Which.
        sid: What for.
        actions: IAM actions, spelled out.
        resources: ARNs.
        conditions: IAM conditions.
    """
    machine.add_to_role_policy(
        iam.PolicyStatement(
            sid=sid, actions=list(actions), resources=list(resources), conditions=dict(conditions or {})
        )
    )


def start_on(
    scope: Construct,
    construct_id: str,
    *,
    name: str,
    description: str,
    pattern: events.EventPattern,
    machine: sfn.StateMachine,
    dead_letters: sqs.IQueue,
) -> None:
    """Start a state machine on events; one that can't be delivered within a day goes to the queue.

    Args:
        scope: Where in the tree.
        construct_id: The rule's place there.
        name: The rule's name.
        description: What has happened then.
        pattern: Which events.
        machine: What is started.
        dead_letters: Keeps what could not be delivered.
    """
    rule = events.Rule(scope, construct_id, rule_name=name, description=description, event_pattern=pattern)
    _add_targets(rule, name, machine, dead_letters, [None])


def start_daily(
    scope: Construct,
    construct_id: str,
    *,
    name: str,
    description: str,
    inputs: Sequence[dict[str, str]],
    machine: sfn.StateMachine,
    dead_letters: sqs.IQueue,
) -> None:
    """Start a state machine every day, once with each input; a rule takes five at most.

    Args:
        scope: Where in the tree.
        construct_id: The rule's place there.
        name: The rule's name.
        description: The rule's description.
        inputs: The executions' inputs.
        machine: What is started.
        dead_letters: Keeps what could not be delivered.
    """
    daily = events.Schedule.rate(DAY)
    rule = events.Rule(scope, construct_id, rule_name=name, description=description, schedule=daily)
    given = [events.RuleTargetInput.from_object(content) for content in inputs]
    _add_targets(rule, name, machine, dead_letters, given)


def _add_targets(
    rule: events.Rule,
    name: str,
    machine: sfn.StateMachine,
    dead_letters: sqs.IQueue,
    inputs: Sequence[events.RuleTargetInput | None],
) -> None:
    """The machine, once with each input; None: the event itself."""
    own = {"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
    # A role of our own: CDK's could be assumed on behalf of another account.
    role = iam.Role(
        rule,
        "Role",
        assumed_by=iam.ServicePrincipal("events.amazonaws.com", conditions=own),
        description=f"medloop: the rule {name} starts its state machine",
    )
    for given in inputs:
        target = targets.SfnStateMachine(
            machine, input=given, role=role, dead_letter_queue=dead_letters, retry_attempts=24, max_event_age=DAY
        )
        rule.add_target(target)


def _state_machine(
    scope: Construct, construct_id: str, *, name: str, definition: str, around: Surroundings, values: Mapping[str, str]
) -> sfn.StateMachine:
    """A state machine with its role, an encrypted log, and traces."""
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
    around.key.add_to_resource_policy(
        iam.PolicyStatement(
            sid=f"Deliver{construct_id}Log",
            principals=[iam.ServicePrincipal("delivery.logs.amazonaws.com")],
            actions=["kms:Decrypt"],
            # In a key's policy this is the key itself.
            resources=["*"],
            conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
        )
    )
    machine = sfn.StateMachine(
        scope,
        construct_id,
        state_machine_name=name,
        definition_body=sfn.DefinitionBody.from_string(definition),
        definition_substitutions={"Partition": Aws.PARTITION, **values},
        logs=sfn.LogOptions(destination=log, level=sfn.LogLevel.ALL, include_execution_data=False),
        tracing_enabled=True,
        encryption_configuration=sfn.CustomerManagedEncryptionConfiguration(by_arn),
    )
    # Topics are encrypted with the key; who publishes to one uses the key through SNS.
    by_sns = {"StringEquals": {"kms:ViaService": f"sns.{Aws.REGION}.amazonaws.com"}}
    allow(machine, "EncryptNotifications", ["kms:Decrypt", "kms:GenerateDataKey"], [around.key.key_arn], by_sns)
    return machine
