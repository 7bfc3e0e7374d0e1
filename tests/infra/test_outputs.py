"""From the deployed stack to medloop's command line, and the build of its images."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from infra.images.start import build_images, main
from infra.names import IMAGES_PROJECT, SOURCE_KEY, STACK_NAME
from infra.outputs import as_exports, as_settings, pipeline_settings, read_outputs
from medloop.cloud.roles import VARIABLES
from medloop.cloud.sessions import BUCKET_VARIABLE, ROLE_VARIABLE
from medloop.errors import TargetError
from medloop.settings import resolve

STACK = {"StackName": STACK_NAME, "StackStatus": "CREATE_COMPLETE", "CreationTime": datetime(2026, 1, 1, tzinfo=UTC)}


@pytest.fixture
def region(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty account."""
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        yield "eu-central-1"


def test_outputs_become_the_variables_that_medloop_reads(template: dict[str, Any]) -> None:
    """All of them: the bucket, the pipeline's role, each job's."""
    client = boto3.client("cloudformation", region_name="eu-central-1")
    outputs = [
        {"OutputKey": name, "OutputValue": "a b", "Description": output.get("Description", "")}
        for name, output in template["Outputs"].items()
    ]
    with Stubber(client) as stubber:
        stubber.add_response("describe_stacks", {"Stacks": [{**STACK, "Outputs": outputs}]})
        lines = as_exports(read_outputs(client)).splitlines()
    names = {line.removeprefix("export ").partition("=")[0] for line in lines}
    schedules = {"MEDLOOP_GUARD_ARN", "MEDLOOP_SCHEDULER_ROLE_ARN", "MEDLOOP_DEAD_LETTERS_ARN"}
    assert names == {
        *(BUCKET_VARIABLE, ROLE_VARIABLE, *VARIABLES.values(), *schedules),
        *("MEDLOOP_TARGET", "DATA_BUCKET"),
    }
    assert "export MEDLOOP_BUCKET='a b'" in lines


def test_outputs_become_settings_that_pipelines_take() -> None:
    """Of the key and the VPC; without a VPC the key alone."""
    key = "arn:aws:kms:us-east-1:111122223333:key/0a1b2c3d-0000-4000-8000-0a1b2c3d4e5f"
    outputs = {"ArtefactKeyArn": key, "Subnets": "subnet-0a1b2c3d,subnet-1a1b2c3d", "SecurityGroup": "sg-0a1b2c3d"}
    options = as_settings(outputs).replace("'", "").split("--set ")[1:]
    settings = resolve("segmentation", None, [option.strip() for option in options]).settings
    assert settings.network.kms_key == key
    assert tuple(settings.network.subnets) == ("subnet-0a1b2c3d", "subnet-1a1b2c3d")
    assert tuple(settings.network.security_group_ids) == ("sg-0a1b2c3d",)
    assert as_settings({"ArtefactKeyArn": key}) == f"--set network.kms_key={key}"


@pytest.mark.parametrize(("jobs", "training"), [("all", True), ("processing", False)])
def test_jobs_are_isolated_as_the_stack_requires(jobs: str, training: bool) -> None:
    """Processing always; training unless its role may open connections."""
    key = "arn:aws:kms:us-east-1:111122223333:key/0a1b2c3d-0000-4000-8000-0a1b2c3d4e5f"
    sets = pipeline_settings({"ArtefactKeyArn": key, "IsolatedJobs": jobs})
    network = resolve("segmentation", None, sets).settings.network
    assert network.of_processing().enable_network_isolation
    assert network.isolation is training


def test_a_stack_that_is_not_there_is_said() -> None:
    """The message names `make deploy`; the outputs of a stack that exists are read."""
    client = boto3.client("cloudformation", region_name="eu-central-1")
    outputs = [{"OutputKey": "DataBucket", "OutputValue": "data"}]
    with Stubber(client) as stubber:
        stubber.add_client_error("describe_stacks", "ValidationError", "does not exist")
        stubber.add_response("describe_stacks", {"Stacks": [{**STACK, "Outputs": outputs}]}, {"StackName": STACK_NAME})
        with pytest.raises(TargetError, match=f"stack {STACK_NAME} can't be read .*make deploy"):
            read_outputs(client)
        assert read_outputs(client) == {"DataBucket": "data"}


class Builds:
    """CodeBuild: the second request for a build's state returns the given end."""

    def __init__(self, end: str) -> None:
        self.end, self.started, self.num_requests = end, [], 0

    def start_build(self, *, projectName: str) -> dict[str, Any]:  # noqa: N803 - boto3's
        """It begins."""
        self.started.append(projectName)
        return {"build": {"id": "b:1", "buildStatus": "IN_PROGRESS"}}

    def batch_get_builds(self, *, ids: list[str]) -> dict[str, Any]:
        """In progress at first, then at its end."""
        self.num_requests += 1
        status = self.end if self.num_requests > 1 else "IN_PROGRESS"
        return {"builds": [{"id": ids[0], "buildStatus": status, "logs": {"deepLink": "https://log"}}]}


@pytest.mark.slow
def test_the_checkout_is_uploaded_and_built(region: str, tmp_path: Path) -> None:
    """To where the project looks for it."""
    (tmp_path / "m.zip").write_bytes(b"zip")
    s3, builds, waited = boto3.client("s3"), Builds("SUCCEEDED"), []
    s3.create_bucket(Bucket="artefacts", CreateBucketConfiguration={"LocationConstraint": region})
    assert build_images(tmp_path / "m.zip", "artefacts", s3, builds, waited.append) == "b:1"
    assert s3.get_object(Bucket="artefacts", Key=SOURCE_KEY)["Body"].read() == b"zip"
    assert builds.started == [IMAGES_PROJECT]
    assert len(waited) == 2


def test_a_build_that_fails_names_its_log(region: str, tmp_path: Path) -> None:
    """So does a bucket that isn't there name itself."""
    (tmp_path / "m.zip").write_bytes(b"zip")
    s3 = boto3.client("s3")
    with pytest.raises(TargetError, match=r"does not exist.*make deploy"):
        build_images(tmp_path / "m.zip", "absent", s3, Builds("FAILED"), lambda _: None)
    s3.create_bucket(Bucket="artefacts", CreateBucketConfiguration={"LocationConstraint": region})
    with pytest.raises(TargetError, match=r"ended FAILED; its log: https://log"):
        build_images(tmp_path / "m.zip", "artefacts", s3, Builds("FAILED"), lambda _: None)


def test_the_command_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A zip and the bucket's variable."""
    monkeypatch.delenv("MEDLOOP_BUCKET", raising=False)
    assert main(["m.zip"]) == 1
    assert "make images does both" in capsys.readouterr().err
