"""A local session answers in process, refuses the rest, and takes nothing from the developer's own AWS settings."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from medloop.errors import TargetError
from medloop.local.session import local_session
from medloop.local.state.home import ROLE_ARN


@pytest.fixture
def _no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to open a connection fails the test."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("_no_sockets")
@pytest.mark.parametrize(
    ("service", "call", "request_"),
    [
        ("ec2", "describe_instances", {}),
        ("sagemaker", "list_apps", {}),
        ("s3", "list_buckets", {}),
        ("sts", "assume_role", {"RoleArn": ROLE_ARN, "RoleSessionName": "me"}),
        ("iam", "list_roles", {}),
        ("scheduler", "list_schedule_groups", {}),
        ("secretsmanager", "get_secret_value", {"SecretId": "key"}),
    ],
)
def test_unknown_operation_is_refused_without_a_connection(
    local: Any, service: str, call: str, request_: dict[str, Any]
) -> None:
    """A client made later from the session refuses what it doesn't know, and names it."""
    with pytest.raises(ClientError, match="NotImplemented") as caught:
        getattr(local.boto.client(service), call)(**request_)
    assert f"{service}:{call.title().replace('_', '')}" in str(caught.value)


def test_a_client_is_made_once_for_equal_arguments(local: Any) -> None:
    """Another region, or a configuration, gives another one; so does another session."""
    first = local.boto.client("s3")
    assert local.boto.client("s3") is first
    assert local.boto.client("s3", region_name="eu-west-1").meta.region_name == "eu-west-1"
    assert local.boto.client("sagemaker") is not first
    assert local.boto.client("s3", config=Config(read_timeout=1)) is not first
    assert local_session(local.home).client("s3") is not first


def test_a_handler_of_the_session_reaches_clients_of_equal_arguments(local: Any) -> None:
    """A client is remembered, but not beyond a handler's registration."""
    calls: list[str] = []
    local.boto.client("sts").get_caller_identity()
    local.boto.events.register("before-call.sts", lambda model, **_: calls.append(model.name))
    local.boto.client("sts").get_caller_identity()
    assert calls == ["GetCallerIdentity"]


@pytest.mark.parametrize("service", ["sagemakr", "", "endpoints"])
def test_an_unknown_service_is_refused_as_botocore_does(local: Any, service: str) -> None:
    """Folders tell which services there are; `endpoints` is a file next to them."""
    with pytest.raises(BotoCoreError) as caught:
        local.boto.client(service)
    with pytest.raises(type(caught.value)):
        botocore.session.Session().create_client(service, region_name="us-east-1")


@pytest.mark.usefixtures("_no_sockets")
def test_identity_is_the_local_account(local: Any) -> None:
    """STS and IAM name the local account and its role, and no other role."""
    assert local.boto.client("sts").get_caller_identity()["Account"] == "000000000000"
    iam = local.boto.client("iam")
    assert iam.get_role(RoleName="medloop-local")["Role"]["Arn"] == ROLE_ARN
    with pytest.raises(ClientError, match="NoSuchEntity"):
        iam.get_role(RoleName="admin")


def test_developers_own_settings_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that doesn't exist, credentials and another region in the environment change nothing."""
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_DEFAULTS_MODE", "auto")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAREAL")
    session = local_session(tmp_path / "home")
    assert session.region_name == "us-east-1"
    assert session.get_credentials().access_key == "local"
    assert session.client("sagemaker").list_pipelines()["PipelineSummaries"] == []


@pytest.mark.parametrize("below", ["file", "file/deeper/home"])
def test_home_below_a_file_is_refused_by_name(tmp_path: Path, below: str) -> None:
    """A home that can't be made is a user's error that names the path and the fix."""
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetError, match=r"file.*MEDLOOP_HOME"):
        local_session(tmp_path / below)


def test_home_that_becomes_unusable_is_refused_by_name(local: Any) -> None:
    """A regular file in a folder's place is named too."""
    local.home.mkdir(parents=True)
    (local.home / "s3").write_text("")
    with pytest.raises(TargetError, match=r"s3.*MEDLOOP_HOME"):
        local.s3.put_object(Bucket="medloop-local", Key="a", Body=b"")


def test_session_touches_nothing_before_its_first_call(tmp_path: Path) -> None:
    """Making a session and its clients writes no file."""
    local_session(tmp_path / "home").client("sagemaker")
    assert not (tmp_path / "home").exists()


def test_request_that_the_model_refuses_never_arrives(local: Any) -> None:
    """The client checks requests as for AWS."""
    with pytest.raises(ParamValidationError):
        local.sagemaker.create_pipeline(PipelineName=3)


def test_home_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MEDLOOP_HOME names the home, and two sessions of one home see the same records."""
    monkeypatch.setenv("MEDLOOP_HOME", str(tmp_path / "home"))
    definition = json.dumps({"Version": "2020-12-01", "Steps": []})
    local_session().client("sagemaker").create_pipeline(
        PipelineName="p", PipelineDefinition=definition, RoleArn=ROLE_ARN
    )
    pipelines = local_session(tmp_path / "home").client("sagemaker").list_pipelines()["PipelineSummaries"]
    assert [item["PipelineName"] for item in pipelines] == ["p"]
