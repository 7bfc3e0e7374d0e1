"""Targets: which there are, and what an account must have."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import boto3
import pytest

from medloop.cloud.sessions import isolated, open_target, without_telemetry
from medloop.cloud.target import Target
from medloop.errors import TargetError


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that knows of no account."""
    for variable in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE", "MEDLOOP_BUCKET", "MEDLOOP_ROLE_ARN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")


def test_unknown_target_is_refused() -> None:
    """The two that exist are named."""
    with pytest.raises(TargetError, match="choose local or aws"):
        open_target(cast(Any, "azure"))


@pytest.mark.parametrize(
    ("environment", "missing"),
    [
        ({}, "AWS_DEFAULT_REGION"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "MEDLOOP_BUCKET"),
        ({"AWS_DEFAULT_REGION": "eu-west-1", "MEDLOOP_BUCKET": "b"}, "MEDLOOP_ROLE_ARN"),
    ],
)
def test_aws_says_what_is_missing(environment: dict[str, str], missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One variable at a time, by name, before any call."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TargetError, match=missing):
        open_target("aws")


def test_aws_names_a_profile_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that no configuration file has is a user's error."""
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(TargetError, match=r"no-such-profile.*correct AWS_PROFILE"):
        open_target("aws")


def test_a_local_build_sees_none_of_the_developers_own_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The SDK's own sessions at import find no profile and no file; afterwards the environment is as it was."""
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    before = dict(os.environ)
    with isolated(open_target("local", tmp_path)):
        assert boto3.Session().profile_name == "default"
    assert dict(os.environ) == before
    aws = Target("aws", cast(Any, None), "b", "r", "a", "eu-west-1")
    with isolated(aws):
        assert dict(os.environ) == before


def test_telemetry_is_opted_out_of_only_on_request() -> None:
    """The SDK's configuration is back as it was afterwards."""
    session = SimpleNamespace(sagemaker_config={})
    with without_telemetry(cast(Any, session)):
        assert session.sagemaker_config["SageMaker"]["PythonSDK"]["Modules"]["TelemetryOptOut"] is True
    assert session.sagemaker_config == {}
