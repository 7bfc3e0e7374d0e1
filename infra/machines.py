"""State machines whose definition is a file in the Amazon States Language."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct


def state_machine(
    scope: Construct,
    construct_id: str,
    *,
    name: str,
    definition: str,
    key: kms.IKey,
    log_retention: logs.RetentionDays,
    values: Mapping[str, str],
) -> sfn.StateMachine:
    """A state machine with its role, an encrypted log, and traces.

    Args:
        scope: Where in the tree.
        construct_id: Under which name there.
        name: Its name.
        definition: In the Amazon States Language; `${Name}` in it stands for a value.
        key: Encrypts executions and the log.
        log_retention: How long the log is kept.
        values: What the names in the definition stand for, beside Partition.
    """
    log = logs.LogGroup(
        scope,
        f"{construct_id}Log",
        # The prefix keeps the account's resource policy of logs from growing beyond its limit.
        log_group_name=f"/aws/vendedlogs/states/{name}",
        encryption_key=key,
        retention=log_retention,
    )
    # Given by its ARN: with the key itself, CDK would let it be used by `kms:Decrypt*`.
    by_arn = kms.Key.from_key_arn(scope, f"{construct_id}Key", key.key_arn)
    key.add_to_resource_policy(
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
    _let_encrypt_notifications(machine, key)
    return machine


def _let_encrypt_notifications(machine: sfn.StateMachine, key: kms.IKey) -> None:
    """Topics are encrypted with the key; who publishes to one uses the key through SNS."""
    machine.add_to_role_policy(
        iam.PolicyStatement(
            sid="EncryptNotifications",
            actions=["kms:Decrypt", "kms:GenerateDataKey"],
            resources=[key.key_arn],
            conditions={"StringEquals": {"kms:ViaService": f"sns.{Aws.REGION}.amazonaws.com"}},
        )
    )
