"""Buckets: raw data as it arrives, artefacts of pipelines, and access logs."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.grants import ANY_PRINCIPAL, statement
from infra.settings import StorageSettings
from infra.storage.keys import Keys


class Storage(Construct):
    """Three buckets without public access, over TLS only, versioned.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        settings: How long objects are kept.
        keys: Encrypt them.
    """

    def __init__(self, scope: Construct, construct_id: str, *, settings: StorageSettings, keys: Keys) -> None:
        super().__init__(scope, construct_id)
        self.settings, self.keys = settings, keys
        self.keep = cdk.RemovalPolicy.RETAIN if settings.keep_on_destroy else cdk.RemovalPolicy.DESTROY
        self.logs = self._make_logs()
        self.data = self._make("Data", keys.data, [])
        # A checkpoint serves a training that died; after that the model is what counts.
        days = cdk.Duration.days(settings.checkpoints_days)
        checkpoints = s3.LifecycleRule(id="checkpoints", prefix="checkpoints/", expiration=days)
        self.artefacts = self._make("Artefacts", keys.artefacts, [checkpoints])
        self._report_new_data()

    def _make(self, construct_id: str, key: kms.IKey, rules: list[s3.LifecycleRule]) -> s3.Bucket:
        bucket = self._bucket(
            construct_id,
            rules,
            encryption=s3.BucketEncryption.KMS,
            encryption_key=key,
            bucket_key_enabled=True,
            server_access_logs_bucket=self.logs,
            server_access_logs_prefix=f"access/{construct_id.lower()}/",
        )
        _refuse_other_keys(bucket, key)
        return bucket

    def make_bucket(self, construct_id: str, key: kms.IKey, *, expires: cdk.Duration) -> s3.Bucket:
        """Make one more bucket, as the others are; its objects don't stay."""
        return self._make(construct_id, key, [s3.LifecycleRule(id="all", expiration=expires)])

    def _make_logs(self) -> s3.Bucket:
        """The bucket of access logs: S3 delivers them with its own key only."""
        expiring = s3.LifecycleRule(id="logs", expiration=cdk.Duration.days(self.settings.logs_days))
        return self._bucket("Logs", [expiring], encryption=s3.BucketEncryption.S3_MANAGED)

    def _bucket(self, construct_id: str, rules: list[s3.LifecycleRule], **options: Any) -> s3.Bucket:
        return s3.Bucket(
            self,
            construct_id,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            lifecycle_rules=[*self._general_rules(), *rules],
            removal_policy=self.keep,
            **options,
        )

    def _general_rules(self) -> list[s3.LifecycleRule]:
        return [
            s3.LifecycleRule(
                id="old-versions",
                noncurrent_version_expiration=cdk.Duration.days(self.settings.old_versions_days),
                expired_object_delete_marker=True,
            ),
            s3.LifecycleRule(id="unfinished", abort_incomplete_multipart_upload_after=cdk.Duration.days(7)),
        ]

    def _report_new_data(self) -> None:
        """Arrivals are events of EventBridge; the property, as CDK's own switch would add a function to set it."""
        bucket = self.data.node.default_child
        assert isinstance(bucket, s3.CfnBucket)  # noqa: S101 - for the type checker
        bucket.add_property_override("NotificationConfiguration.EventBridgeConfiguration.EventBridgeEnabled", True)


def _refuse_other_keys(bucket: s3.Bucket, key: kms.IKey) -> None:
    """An object that is stored under another key would stay readable with that key."""
    objects, used_key = [bucket.arn_for_objects("*")], "s3:x-amz-server-side-encryption-aws-kms-key-id"
    by_other_key = {"Null": {used_key: "false"}, "StringNotEquals": {used_key: key.key_arn}}
    # S3's own keys, and the account's key for S3, which all who may read S3 there may use.
    unnamed = {"Null": {"s3:x-amz-server-side-encryption": "false", used_key: "true"}}
    for sid, conditions in (("OtherKeys", by_other_key), ("NoKeyOfOurs", unnamed)):
        bucket.add_to_resource_policy(
            statement(sid, ["s3:PutObject"], objects, conditions, principals=ANY_PRINCIPAL, deny=True)
        )
