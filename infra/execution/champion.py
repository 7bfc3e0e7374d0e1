"""The function that finds the champion: containers/champion's bundle, and the rights that its README lists."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.execution.grants import sagemaker_arn, statement, use_key, write_objects
from infra.execution.jobs import MODELS, SPLIT_RECORD
from infra.functions import PythonFunction
from infra.network.vpc import Network
from infra.storage.buckets import Storage
from medloop.bundle import bundle_files, load_container
from medloop.cloud.functions import TIMEOUT_SECONDS
from medloop.cloud.layout import TEST_USES

CONTAINER = "champion"


class Champion(Construct):
    """The function `medloop-champion`, as medloop/cloud/target.py names it.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        storage: The buckets.
        network: Where it runs.
        groups: Names of the model package groups.
        log_retention: How long its log is kept.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        storage: Storage,
        network: Network,
        groups: list[str],
        log_retention: logs.RetentionDays,
    ) -> None:
        super().__init__(scope, construct_id)
        spec = load_container(CONTAINER)
        made = PythonFunction(
            self,
            "Function",
            function_name=f"medloop-{CONTAINER}",
            description="Finds the Approved version that a candidate is compared with",
            files=[file.as_posix() for file in bundle_files(spec) if file.suffix == ".py"],
            handler=spec.entry_point.removesuffix(".py") + ".handler",
            key=storage.keys.logs,
            log_retention=log_retention,
            timeout=cdk.Duration.seconds(TIMEOUT_SECONDS),
            vpc=network.vpc,
            security_group=network.security_group,
        )
        self.function, self.role = made.function, made.role
        for each in self._rights(storage, groups):
            self.role.add_to_policy(each)

    def _rights(self, storage: Storage, groups: list[str]) -> list[iam.PolicyStatement]:
        bucket, ledger = storage.artefacts, f"{TEST_USES}/*"
        reading = (SPLIT_RECORD, *MODELS, ledger)
        versions = [sagemaker_arn(self, "model-package", f"{group}/*") for group in groups]
        return [
            # The service knows no narrower resource for lists.
            statement("ListVersions", ["sagemaker:ListModelPackages"], ["*"]),
            statement("DescribeVersions", ["sagemaker:DescribeModelPackage"], versions),
            statement("ReadSplitAndLedger", ["s3:GetObject"], [bucket.arn_for_objects(key) for key in reading]),
            # Without a prefix: only so does S3 tell an absent object from a forbidden one.
            statement("ToldOfAbsence", ["s3:ListBucket"], [bucket.bucket_arn]),
            write_objects("WriteLedger", bucket, ledger),
            *use_key("UseArtefacts", storage.keys.artefacts, write=True),
        ]
