"""What upsert leaves on an account: code, key, group and pipeline, each once (moto stands for AWS)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from medloop.cloud.layout import NO_MODEL_FILE, PSEUDONYM_KEY
from medloop.cloud.sessions import open_target
from medloop.cloud.target import Target
from medloop.cloud.upsert import build_definition, upsert
from medloop.errors import SettingError, TargetError
from medloop.local.state.home import BUCKET, REGION
from medloop.settings import Resolved, resolve
from tests.pipelines.world import keep_versions

pytestmark = pytest.mark.slow
ACCOUNT = "123456789012"
"""moto's."""


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """A target on an empty account with a bucket."""
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "none")
    with mock_aws(config={"lambda": {"use_docker": False}}):
        session = boto3.Session(region_name=REGION)
        keep_versions(session)
        session.client("s3").create_bucket(Bucket=BUCKET)
        trust = json.dumps({"Version": "2012-10-17", "Statement": []})
        role = session.client("iam").create_role(RoleName="medloop", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        yield Target("local", session, BUCKET, role, ACCOUNT, REGION)


@pytest.fixture
def resolved() -> Resolved:
    """The classification pipeline with its defaults."""
    return resolve("classification")


def stored(target: Target, key: str) -> bytes:
    """An object's bytes."""
    return bytes(target.boto.client("s3").get_object(Bucket=target.bucket, Key=key)["Body"].read())


def test_first_upsert_stores_everything_that_a_run_needs(account: Target, resolved: Resolved) -> None:
    """Every bundle, the key, the marker of "no champion", the function, the group, the definition as built."""
    result = upsert(account, resolved)
    bundles = [account.bundle(name) for name in ("split", "classify", "champion", "evaluate", "serve")]
    assert set(result.uploaded) == {*(bundle.key for bundle in bundles), PSEUDONYM_KEY, NO_MODEL_FILE}
    assert all(stored(account, bundle.key) == bundle.data for bundle in bundles)
    assert len(stored(account, PSEUDONYM_KEY)) == 32
    client = account.boto.client("sagemaker")
    assert client.describe_model_package_group(ModelPackageGroupName="medloop-classification")
    pipeline = client.describe_pipeline(PipelineName="classification")
    assert (pipeline["PipelineArn"], result.action) == (result.arn, "created")
    assert json.loads(pipeline["PipelineDefinition"]) == json.loads(build_definition(account, resolved))


def test_second_upsert_changes_nothing(account: Target, resolved: Resolved) -> None:
    """The key above all: another one would give every patient a new pseudonym."""
    first = upsert(account, resolved)
    key = stored(account, PSEUDONYM_KEY)
    second = upsert(account, resolved)
    assert (second.arn, second.action, second.uploaded) == (first.arn, "unchanged", ())
    assert stored(account, PSEUDONYM_KEY) == key


def test_changed_settings_update_the_pipeline(account: Target, resolved: Resolved) -> None:
    """The same pipeline, another definition."""
    first = upsert(account, resolved)
    second = upsert(account, resolve("classification", None, ["gate.min_score=0.9"]))
    assert (second.arn, second.action) == (first.arn, "updated")
    definition = json.loads(
        account.boto.client("sagemaker").describe_pipeline(PipelineName="classification")["PipelineDefinition"]
    )
    assert {"Name": "MinScore", "Type": "Float", "DefaultValue": 0.9} in definition["Parameters"]


def test_versions_are_those_of_the_definitions_put(tmp_path: Path, resolved: Resolved) -> None:
    """On the local backend: a new definition has a new number, an equal one keeps its own."""
    target, other = open_target("local", tmp_path), resolve("classification", None, ["gate.min_score=0.9"])
    done = [upsert(target, configuration) for configuration in (resolved, resolved, other, other, resolved)]
    assert [(result.action, result.version) for result in done] == [
        *(("created", 1), ("unchanged", 1), ("updated", 2), ("unchanged", 2), ("updated", 3)),
    ]


def test_a_version_is_ones_own_though_another_became_the_newest(tmp_path: Path, resolved: Resolved) -> None:
    """Someone else updates the pipeline at once: the number still leads to the definition that was put."""
    target, other = open_target("local", tmp_path), open_target("local", tmp_path)
    changed = json.loads(build_definition(other, resolve("classification", None, ["gate.min_score=0.9"])))
    client = other.boto.client("sagemaker")

    def update(**_: Any) -> None:
        client.update_pipeline(PipelineName="classification", PipelineDefinition=json.dumps(changed))

    target.boto.events.register("after-call.sagemaker.CreatePipeline", update)
    result = upsert(target, resolved)
    assert (result.action, result.version) == ("created", 1)
    newest = client.describe_pipeline(PipelineName="classification")["PipelineDefinition"]
    definition = client.describe_pipeline(PipelineName="classification", PipelineVersionId=1)["PipelineDefinition"]
    assert json.loads(newest) == changed
    assert json.loads(definition) == json.loads(build_definition(target, resolved)) != changed


@pytest.mark.parametrize("code", ["AccessDeniedException", "ThrottlingException"])
def test_who_may_not_list_versions_can_upsert(tmp_path: Path, resolved: Resolved, code: str) -> None:
    """The result then names no version; any other failure of the call is an error."""
    target = open_target("local", tmp_path)

    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "ListPipelineVersions")

    target.boto.events.register_first("before-call.sagemaker.ListPipelineVersions", refuse)
    if code == "AccessDeniedException":
        assert upsert(target, resolved).version is None
    else:
        with pytest.raises(TargetError, match="ThrottlingException"):
            upsert(target, resolved)


def test_who_may_not_read_the_key_can_upsert(tmp_path: Path, resolved: Resolved) -> None:
    """Publishers may store what isn't there yet, and not read the key of pseudonyms, which then stays."""
    target = open_target("local", tmp_path)
    target.boto.client("s3").put_object(Bucket=target.bucket, Key=PSEUDONYM_KEY, Body=b"the key")

    def forbid(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "403", "Message": "Forbidden"}}, "HeadObject")

    target.boto.events.register_first("before-call.s3.HeadObject", forbid)
    uploaded = upsert(target, resolved).uploaded
    assert NO_MODEL_FILE in uploaded
    assert PSEUDONYM_KEY not in uploaded
    assert stored(target, PSEUDONYM_KEY) == b"the key"


@pytest.mark.parametrize("is_there", [True, False])
def test_who_may_not_make_the_key_needs_it_there(tmp_path: Path, resolved: Resolved, is_there: bool) -> None:
    """Publishers learn from the listing whether the build of images has made it; without it no pipeline is stored."""
    target = open_target("local", tmp_path)
    if is_there:
        target.boto.client("s3").put_object(Bucket=target.bucket, Key=PSEUDONYM_KEY, Body=b"the key")

    def forbid(model: Any, params: dict[str, Any], **_: Any) -> None:
        if str(params).count(PSEUDONYM_KEY):
            code = "403" if model.name == "HeadObject" else "AccessDenied"
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, model.name)

    for operation in ("HeadObject", "PutObject"):
        target.boto.events.register_first(f"before-call.s3.{operation}", forbid)
    if is_there:
        assert PSEUDONYM_KEY not in upsert(target, resolved).uploaded
        return
    advice = f"target local: {PSEUDONYM_KEY} isn't there, and this role may not make it; `make images` does"
    with pytest.raises(TargetError, match=f"^{advice}$"):
        upsert(target, resolved)
    assert target.boto.client("sagemaker").list_pipelines()["PipelineSummaries"] == []


def test_refused_definition_stores_nothing(account: Target) -> None:
    """The definition is checked first."""
    with pytest.raises(SettingError, match="is none of the service's values"):
        upsert(account, resolve("classification", None, ["split.instance_type=ml.toaster.xlarge"]))
    assert "Contents" not in account.boto.client("s3").list_objects_v2(Bucket=account.bucket)


def test_bucket_that_does_not_exist_is_named(account: Target, resolved: Resolved) -> None:
    """One line for the user, not a traceback."""
    with pytest.raises(TargetError, match="NoSuchBucket"):
        upsert(replace(account, bucket="no-such-bucket"), resolved)


def test_aws_without_the_image_is_refused_with_the_command_to_push_it(account: Target, resolved: Resolved) -> None:
    """An execution would fail only after its first job had been queued."""
    with pytest.raises(TargetError, match=r"no image of containers/split .*`medloop images push split`"):
        upsert(replace(account, name="aws"), resolved)
    with pytest.raises(ClientError):
        account.boto.client("sagemaker").describe_pipeline(PipelineName="classification")
