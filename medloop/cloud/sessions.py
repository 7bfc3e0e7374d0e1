"""Open targets (medloop.cloud.target): this machine, or the account that the environment names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from medloop.cloud.roles import read_roles
from medloop.cloud.target import Target, TargetName
from medloop.errors import TargetError

if TYPE_CHECKING:
    from sagemaker.core.workflow.pipeline_context import PipelineSession

BUCKET_VARIABLE = "MEDLOOP_BUCKET"
ROLE_VARIABLE = "MEDLOOP_ROLE_ARN"
_OWN_SETTINGS: dict[str, str | None] = {
    "AWS_PROFILE": None,
    "AWS_DEFAULT_PROFILE": None,
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
_OPT_OUT = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}


def open_target(name: TargetName, home: Path | None = None) -> Target:
    """Open a target.

    Args:
        name: `local` or `aws`.
        home: Folder of the local backend's state; None takes MEDLOOP_HOME, else `.medloop`.

    Raises:
        TargetError: The target is unknown, or the account can't be reached or lacks a setting.
    """
    if name == "local":
        from medloop.local.session import local_session
        from medloop.local.state.home import ACCOUNT, BUCKET, REGION, ROLE_ARN

        return Target("local", local_session(home), BUCKET, ROLE_ARN, ACCOUNT, REGION)
    if name == "aws":
        return _open_aws()
    raise TargetError(f"target {name!r} is unknown; choose local or aws")


@contextlib.contextmanager
def without_telemetry(session: PipelineSession) -> Iterator[None]:
    """The SDK's documented opt-out, for the calls that would send telemetry.

    Only around those calls: elsewhere the configuration is empty, and each of the SDK's look-ups in it ends at once.
    """
    before = session.sagemaker_config
    session.sagemaker_config = _OPT_OUT
    try:
        yield
    finally:
        session.sagemaker_config = before


@contextlib.contextmanager
def isolated(target: Target) -> Iterator[None]:
    """For a local target, an environment without the developer's own AWS settings.

    The SDK opens sessions of its own at import, which fail over a profile that doesn't exist.
    """
    if target.name != "local":
        yield
        return
    before = {name: os.environ.get(name) for name in _OWN_SETTINGS}
    _put_environment(_OWN_SETTINGS)
    try:
        yield
    finally:
        _put_environment(before)


def _put_environment(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _open_aws() -> Target:
    try:
        session = boto3.Session()
    except BotoCoreError as error:
        raise TargetError(f"target aws: {error}; correct AWS_PROFILE or your AWS configuration") from None
    if session.region_name is None:
        raise TargetError("target aws: no region; set AWS_DEFAULT_REGION")
    bucket = _required(BUCKET_VARIABLE, "the artefact bucket's name")
    role = _required(ROLE_VARIABLE, "the ARN of the role of pipelines and jobs")
    try:
        account = session.client("sts").get_caller_identity()["Account"]
    except (BotoCoreError, ClientError) as error:
        raise TargetError(f"target aws: no access to the account ({error}); sign in first") from None
    return Target("aws", session, bucket, role, account, session.region_name, read_roles())


def _required(variable: str, meaning: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise TargetError(f"target aws: {variable} is not set; set it to {meaning}")
    return value
