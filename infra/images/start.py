"""Upload the checkout and let CodeBuild build its images: `make images`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from infra.names import IMAGES_PROJECT, SOURCE_KEY
from medloop.errors import MedloopError, SettingError, TargetError

if TYPE_CHECKING:
    from mypy_boto3_codebuild import CodeBuildClient
    from mypy_boto3_s3 import S3Client


POLL_SECONDS = 15


def build_images(
    archive: Path, bucket: str, s3: S3Client, codebuild: CodeBuildClient, wait: Callable[[float], None]
) -> str:
    """Upload, build, follow; returns the build's id.

    Args:
        archive: A zip of the checkout.
        bucket: The artefact bucket.
        s3: S3 client.
        codebuild: CodeBuild client.
        wait: Sleeps.

    Raises:
        TargetError: The account refuses, or the build fails; the message names its log.
    """
    try:
        with archive.open("rb") as content:
            s3.put_object(Bucket=bucket, Key=SOURCE_KEY, Body=content)
        build = codebuild.start_build(projectName=IMAGES_PROJECT)["build"]
        while build["buildStatus"] == "IN_PROGRESS":
            wait(POLL_SECONDS)
            (build,) = codebuild.batch_get_builds(ids=[build["id"]])["builds"]
    except (ClientError, BotoCoreError) as error:
        raise TargetError(f"images: {error}; deploy infra first: make deploy") from None
    if build["buildStatus"] != "SUCCEEDED":
        log = build.get("logs", {}).get("deepLink", "CodeBuild's console")
        raise TargetError(f"images: build {build['id']} ended {build['buildStatus']}; its log: {log}")
    return str(build["id"])


def main(arguments: Sequence[str]) -> int:
    """The command: one argument, the zip."""
    try:
        if len(arguments) != 1 or not os.environ.get("MEDLOOP_BUCKET"):
            raise SettingError("images: give a zip of the checkout, and set MEDLOOP_BUCKET: make images does both")
        archive, bucket = Path(arguments[0]), os.environ["MEDLOOP_BUCKET"]
        print(build_images(archive, bucket, boto3.client("s3"), boto3.client("codebuild"), time.sleep))
    except (MedloopError, BotoCoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
