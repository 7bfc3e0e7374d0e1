"""The function that finds the champion: containers/champion's bundle, and the rights that its README lists."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra.execution.jobs import MODELS, SPLIT_RECORD
from infra.functions import PythonFunction, Surroundings
from infra.grants import allow, statement, use_key, versions_of, write_objects
from infra.storage.buckets import Storage
from medloop.bundle import bundle_files, load_container
from medloop.cloud.functions import TIMEOUT_SECONDS
from medloop.cloud.layout import TEST_USES

CONTAINER = "champion"


def make_champion(scope: Construct, storage: Storage, groups: Sequence[str], around: Surroundings) -> lambda_.IFunction:
    """Make the function `medloop-champion`, as medloop/cloud/target.py names it.

    Args:
        scope: CDK's parent.
        storage: The buckets.
        groups: Names of the model package groups.
        around: Key, log, network.
    """
    spec = load_container(CONTAINER)
    made = PythonFunction(
        Construct(scope, "Champion"),
        "Function",
        function_name=f"medloop-{CONTAINER}",
        description="Finds the Approved version that a candidate is compared with",
        files=[file.as_posix() for file in bundle_files(spec) if file.suffix == ".py"],
        handler=spec.entry_point.removesuffix(".py") + ".handler",
        timeout=cdk.Duration.seconds(TIMEOUT_SECONDS),
        around=around,
    )
    bucket, ledger = storage.artefacts, f"{TEST_USES}/*"
    records = [bucket.arn_for_objects(key) for key in (SPLIT_RECORD, *MODELS, ledger)]
    allow(
        made.role,
        # The service knows no narrower resource for lists.
        statement("ListVersions", ["sagemaker:ListModelPackages"]),
        statement("DescribeVersions", ["sagemaker:DescribeModelPackage"], versions_of(groups)),
        statement("ReadSplitAndLedger", ["s3:GetObject"], records),
        # Without a prefix: only so does S3 distinguish an absent object from a forbidden one.
        statement("ToldOfAbsence", ["s3:ListBucket"], [bucket.bucket_arn]),
        write_objects("WriteLedger", bucket, ledger),
        *use_key("UseArtefacts", storage.keys.artefacts, write=True),
    )
    return made.function
