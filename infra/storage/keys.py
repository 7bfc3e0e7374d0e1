"""KMS keys: one for raw data, which names patients, one for all that is made of it, one for logs."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from infra.grants import OWN_ACCOUNT, arn, service, statement
from infra.settings import StorageSettings

ADMINISTERING = [
    "kms:CancelKeyDeletion",
    "kms:CreateAlias",
    "kms:DeleteAlias",
    "kms:DescribeKey",
    "kms:DisableKey",
    "kms:EnableKey",
    "kms:EnableKeyRotation",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListResourceTags",
    "kms:ListRetirableGrants",
    "kms:PutKeyPolicy",
    "kms:RetireGrant",
    "kms:RevokeGrant",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateAlias",
    "kms:UpdateKeyDescription",
]
USING = [
    "kms:CreateGrant",
    "kms:Decrypt",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
]


class Keys(Construct):
    """The keys; a role that may train a model can't read raw data even if a bucket's policy is wrong.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        settings: Whether keys stay when the stack goes.
    """

    def __init__(self, scope: Construct, construct_id: str, *, settings: StorageSettings) -> None:
        super().__init__(scope, construct_id)
        self.data = make_key(self, "Data", "raw images, which may name patients", settings)
        self.artefacts = make_key(self, "Artefacts", "what jobs write, images in ECR, functions' settings", settings)
        self.logs = make_log_key(self, settings)


def make_key(scope: Construct, construct_id: str, description: str, settings: StorageSettings) -> kms.Key:
    """Make a key that the account administers, and whose users its IAM policies decide: CDK's default, spelled out."""
    root = [iam.AccountRootPrincipal()]
    account = statement("AccountDecidesByIam", [*ADMINISTERING, *USING], principals=root)
    return kms.Key(
        scope,
        construct_id,
        description=f"medloop: {description}",
        alias=f"alias/medloop-{construct_id.lower()}",
        enable_key_rotation=True,
        removal_policy=cdk.RemovalPolicy.RETAIN if settings.keep_on_destroy else cdk.RemovalPolicy.DESTROY,
        policy=iam.PolicyDocument(statements=[account]),
    )


def make_log_key(scope: Construct, settings: StorageSettings) -> kms.Key:
    """Make the key of logs and notifications.

    CloudWatch Logs encrypts log groups of this account; EventBridge and CloudWatch use topics by this key.
    """
    key = make_key(scope, "Logs", "logs and notifications", settings)
    encrypting = ("Decrypt", "DescribeKey", "Encrypt", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo")
    groups = {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": arn("logs", "log-group:*")}}
    notifying = [service(name) for name in ("events", "cloudwatch", "budgets", "costalerts")]
    actions, logs = [f"kms:{verb}" for verb in encrypting], [service(f"logs.{cdk.Aws.REGION}")]
    for rights in (
        statement("LogGroups", actions, conditions=groups, principals=logs),
        statement(
            "Notifications", ["kms:Decrypt", "kms:GenerateDataKey"], conditions=OWN_ACCOUNT, principals=notifying
        ),
    ):
        key.add_to_resource_policy(rights)
    return key
