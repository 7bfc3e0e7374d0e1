"""Images of containers in ECR (moto), and the Docker commands that put them there (a fake runs them)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from medloop.bundle import load_container
from medloop.cloud.images import find_image, image_uri, push_image
from medloop.cloud.target import Target
from medloop.errors import TargetError

REGION, ACCOUNT = "eu-central-1", "123456789012"
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "layers": [],
}


class Docker:
    """Runs `docker`: a build with --push leaves an image in ECR, and keeps what its context held."""

    def __init__(self, target: Target, code: int = 0) -> None:
        self.target = target
        self.code = code
        self.commands: list[list[str]] = []
        self.passwords: list[str | None] = []
        self.context: set[str] = set()

    def __call__(self, command: list[str], *, input: str | None, **_: Any) -> subprocess.CompletedProcess[str]:
        """One command."""
        self.commands.append(command)
        self.passwords.append(input)
        if command[:3] == ["docker", "buildx", "build"] and self.code == 0:
            root = Path(command[-1])
            self.context = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
            name, tag = command[command.index("--tag") + 1].rpartition("/")[2].split(":")
            manifest = json.dumps(MANIFEST | {"config": {"digest": f"sha256:{tag}"}})
            self.target.boto.client("ecr").put_image(repositoryName=name, imageTag=tag, imageManifest=manifest)
        return subprocess.CompletedProcess(command, self.code)


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """An empty account in another region than the base images' own."""
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "none")
    with mock_aws():
        yield Target("aws", boto3.Session(region_name=REGION), "bucket", "arn:aws:iam::1:role/r", ACCOUNT, REGION)


def test_push_builds_the_bundle_and_nothing_else(target: Target) -> None:
    """The context is the bundle unpacked; the platform is SageMaker's; no attestations are added."""
    docker = Docker(target)
    image = push_image(target, "split", docker)
    build = docker.commands[-1]
    assert "medloop/imaging/splitting.py" in docker.context
    assert not any(path.startswith(("tests/", "pipelines/", "medloop/cloud/")) for path in docker.context)
    assert build[build.index("--platform") + 1] == "linux/amd64"
    assert "--provenance=false" in build
    assert image.digest is not None
    assert image.digest.startswith("sha256:")
    assert image.tag == target.code_digest("split")


def test_repository_is_immutable_and_scans_on_push(target: Target) -> None:
    """A tag never means another image."""
    push_image(target, "split", Docker(target))
    (repository,) = target.boto.client("ecr").describe_repositories()["repositories"]
    assert repository["repositoryName"] == "medloop-split"
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    assert repository["encryptionConfiguration"]["encryptionType"] == "KMS"


def test_an_image_that_is_there_is_not_built_again(target: Target) -> None:
    """Its tag is its content."""
    first = push_image(target, "split", Docker(target))
    docker = Docker(target)
    assert push_image(target, "split", docker) == first
    assert docker.commands == []


def test_base_image_comes_from_the_accounts_own_region_with_a_login_there(target: Target) -> None:
    """Passwords go by standard input alone."""
    docker = Docker(target)
    push_image(target, "classify", docker)
    logins = [command for command in docker.commands if command[1] == "login"]
    assert {command[-1] for command in logins} == {
        f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com",
        load_container("classify").base.partition("/")[0].replace("us-east-1", REGION),
    }
    assert all(password and password not in " ".join(command) for command, password in zip(logins, docker.passwords))  # noqa: B905
    assert f".ecr.{REGION}." in next(word for word in docker.commands[-1] if word.startswith("BASE_IMAGE="))


def test_definitions_name_a_pushed_image_by_its_digest(target: Target) -> None:
    """Before it is pushed there is only the tag to name it by."""
    assert image_uri(target, "split").endswith(f"/medloop-split:{target.code_digest('split')}")
    image = push_image(target, "split", Docker(target))
    fresh = Target("aws", target.boto, target.bucket, target.role_arn, ACCOUNT, REGION)
    assert image_uri(fresh, "split") == f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/medloop-split@{image.digest}"
    assert find_image(fresh, "split") == image


def test_a_failed_build_is_one_line(target: Target) -> None:
    """What Docker said is above it."""
    with pytest.raises(TargetError, match=r"`docker login .*` failed \(exit code 1\)"):
        push_image(target, "split", Docker(target, code=1))
    assert find_image(target, "split").digest is None


def test_no_docker_is_one_line(target: Target) -> None:
    """The message names the fix."""

    def absent(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError("docker")

    with pytest.raises(TargetError, match="docker isn't installed here"):
        push_image(target, "split", absent)
