"""Published pipelines: on AWS a run starts the version that its checkout builds, which another role has stored.

A role that may start executions there and not change pipelines runs reviewed definitions only (docs/deploy.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from medloop.cloud.upsert import UpsertResult, build_definition, is_denied, stored_definition
from medloop.definition.origin import differences
from medloop.errors import TargetError

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

    from medloop.cloud.target import Target
    from medloop.settings import Resolved

MAX_VERSIONS = 50
"""The newest versions that are compared, one request each."""


def find_published(target: Target, resolved: Resolved) -> UpsertResult | None:
    """Find the newest version of the pipeline on AWS that these settings build; it may name another commit.

    Args:
        target: The target; a local pipeline is the user's own, and stored at each run.
        resolved: The pipeline and its settings.

    Returns:
        None if there is none, or on the local target.

    Raises:
        SettingError: The service would refuse the definition.
        TargetError: The target can't be reached, or refuses.
    """
    if target.name != "aws" or stored_definition(target, resolved.pipeline) is None:
        return None
    definition = build_definition(target, resolved)
    try:
        return _find(target, resolved.pipeline, definition)
    except (ClientError, BotoCoreError) as error:
        raise TargetError(f"target aws: pipeline {resolved.pipeline} can't be read: {error}") from error


def _find(target: Target, name: str, definition: str) -> UpsertResult | None:
    client = target.boto.client("sagemaker")
    for number in _versions(client, name):
        version = {} if number is None else {"PipelineVersionId": number}
        present = client.describe_pipeline(PipelineName=name, **version)
        same_role = present.get("RoleArn") in (None, target.role_arn)
        if same_role and not differences(present["PipelineDefinition"], definition):
            return UpsertResult(str(present["PipelineArn"]), "unchanged", number, ())
    return None


def _versions(client: SageMakerClient, name: str) -> Iterator[int | None]:
    """Numbers of a pipeline's versions, the newest first; None for the newest alone if they can't be listed."""
    request = {"PipelineName": name, "SortOrder": "Descending", "MaxResults": MAX_VERSIONS}
    try:
        listed = client.list_pipeline_versions(**request)["PipelineVersionSummaries"]  # type: ignore[arg-type]
    except ClientError as error:
        if not is_denied(error):
            raise
        yield None
        return
    yield from (int(version["PipelineVersionId"]) for version in listed)
