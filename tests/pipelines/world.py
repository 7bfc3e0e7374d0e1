"""A target that reaches nothing: every call that the SDK would make to AWS is recorded and refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import boto3

from medloop.cloud.target import Target
from medloop.local.state.home import ACCOUNT, BUCKET, REGION, ROLE_ARN


class CallRefusedError(Exception):
    """Raised in place of any call."""


def unreachable_target(calls: list[str]) -> Target:
    """A local-like target.

    Args:
        calls: Receives the names of the operations that were tried.
    """
    session = boto3.Session(aws_access_key_id="none", aws_secret_access_key="none", region_name=REGION)  # noqa: S106

    def refuse(model: Any, **_: Any) -> None:
        calls.append(model.name)
        raise CallRefusedError(model.name)

    session.events.register("before-call", refuse)
    return Target("local", session, BUCKET, ROLE_ARN, ACCOUNT, REGION)


def keep_versions(session: boto3.Session) -> None:
    """Let moto, which knows no versions of pipelines, list one: the first, of the definition that it holds."""

    def respond(**_: Any) -> tuple[Any, dict[str, Any]]:
        return SimpleNamespace(status_code=200), {"PipelineVersionSummaries": [{"PipelineVersionId": 1}]}

    session.events.register("before-call.sagemaker.ListPipelineVersions", respond)
