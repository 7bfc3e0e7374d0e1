"""Images of containers, here and in ECR (moto), and the engine's commands that put them there (a fake runs them)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from medloop.bundle import load_container, make_bundle
from medloop.cli import main
from medloop.cloud.base_images import base_image_uri
from medloop.cloud.container_engines import ContainerEngine, find_engine, run_engine
from medloop.cloud.images import build_image, find_image, image_uri, push_image, push_sbom
from medloop.cloud.sbom import make_sbom
from medloop.cloud.target import Target
from medloop.commands.options import Services
from medloop.errors import TargetError

INSTALLED = {"docker"}
"""Engines whose program is there, with or without its daemon."""
PACKAGES: list[dict[str, Any]] = [
    {"Name": "numpy", "Version": "2.4.6", "License-Expression": "BSD-3-Clause AND MIT", "License": None},
    {"Name": "Pillow", "Version": "13.0.0", "License": "MIT-CMU", "Classifier": None},
    {"Name": "old", "Version": "1", "License": "text\n" * 99, "Classifier": ["License :: OSI Approved :: MIT License"]},
    {"Name": "none", "Version": "1", "License": "UNKNOWN", "Classifier": []},
]
REPORT = json.dumps(PACKAGES)
"""The metadata of an image's packages."""
REGION, ACCOUNT = "eu-central-1", "123456789012"
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.shell.distribution.manifest.v2+json",
    "layers": [],
}


class Shell:
    """Runs commands of container engines: a push leaves in ECR what was built, and a build's context is remembered.

    Args:
        target: An AWS target; None builds only.
        code: What all commands but `info` exit with.
        working: The engines that are installed and respond.
    """

    def __init__(self, target: Target | None = None, code: int = 0, working: Sequence[str] = ("docker",)) -> None:
        self.target = target
        self.code = code
        self.working = working
        self.commands: list[list[str]] = []
        self.passwords: list[str | None] = []
        self.variables: list[dict[str, str]] = []
        self.context: set[str] = set()

    def __call__(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """One command."""
        if command[0] not in INSTALLED and command[0] not in self.working:
            raise FileNotFoundError(command[0])
        if command[1] == "info":
            return subprocess.CompletedProcess(command, 0 if command[0] in self.working else 1)
        self.commands.append(command)
        self.passwords.append(options.get("input"))
        self.variables.append(options["env"])
        if self.code == 0:
            self.obey(command)
        return subprocess.CompletedProcess(command, self.code, REPORT if "-c" in command else "")

    def obey(self, command: list[str]) -> None:
        """Do what the command is for."""
        if command[1] == "build":
            root = Path(command[-1])
            self.context = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
        if command[1] == "push" and self.target:
            name, tag = command[-1].rpartition("/")[2].split(":")
            manifest = json.dumps(MANIFEST | {"config": {"digest": f"sha256:{tag}"}})
            self.target.boto.client("ecr").put_image(repositoryName=name, imageTag=tag, imageManifest=manifest)

    def command(self, word: str) -> list[str]:
        """The only command of that kind."""
        (command,) = [command for command in self.commands if command[1] == word]
        return command


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """An empty account in another region than the base images' own."""
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "none")
    with mock_aws():
        yield Target("aws", boto3.Session(region_name=REGION), "bucket", "arn:aws:iam::1:role/r", ACCOUNT, REGION)


def test_push_builds_the_bundle_and_nothing_else(target: Target) -> None:
    """The context is the bundle unpacked; the platform is SageMaker's; no attestations are added."""
    shell = Shell(target)
    image = push_image(target, "split", run=shell)
    build = shell.command("build")
    assert "medloop/imaging/splitting.py" in shell.context
    assert not any(path.startswith(("tests/", "pipelines/", "medloop/cloud/")) for path in shell.context)
    assert build[build.index("--platform") + 1] == "linux/amd64"
    assert {variables["BUILDX_NO_DEFAULT_ATTESTATIONS"] for variables in shell.variables} == {"1"}
    assert shell.command("push") == ["docker", "push", build[build.index("--tag") + 1]]
    assert image.digest is not None
    assert image.digest.startswith("sha256:")
    assert image.tag == target.code_digest("split")


@pytest.mark.slow
def test_repository_is_immutable_and_scans_on_push(target: Target) -> None:
    """A tag never means another image."""
    push_image(target, "split", run=Shell(target))
    (repository,) = target.boto.client("ecr").describe_repositories()["repositories"]
    assert repository["repositoryName"] == "medloop-split"
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    assert repository["encryptionConfiguration"]["encryptionType"] == "KMS"


@pytest.mark.slow
def test_an_image_that_is_there_is_not_built_again(target: Target) -> None:
    """Its tag is its content."""
    first = push_image(target, "split", run=Shell(target))
    shell = Shell(target)
    assert push_image(target, "split", run=shell) == first
    assert shell.commands == []


@pytest.mark.slow
def test_base_image_comes_from_the_accounts_own_region_with_a_login_there(target: Target) -> None:
    """Passwords go by standard input alone."""
    shell = Shell(target)
    push_image(target, "classify", run=shell)
    logins = [command for command in shell.commands if command[1] == "login"]
    assert {command[-1] for command in logins} == {
        f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com",
        load_container("classify").base.partition("/")[0].replace("us-east-1", REGION),
    }
    assert all(password and password not in " ".join(command) for command, password in zip(logins, shell.passwords))  # noqa: B905
    assert f".ecr.{REGION}." in next(word for word in shell.command("build") if word.startswith("BASE_IMAGE="))


def blobs(target: Target, manifest: dict[str, Any]) -> list[tuple[str, int]]:
    """Digest and size of the blobs of an artefact that ECR has."""
    digests = [manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]
    ecr = target.boto.client("ecr")
    layers = ecr.batch_check_layer_availability(repositoryName="medloop-split", layerDigests=digests)["layers"]
    return [(layer["layerDigest"], layer["layerSize"]) for layer in layers]


def stored_sbom(target: Target) -> dict[str, Any] | None:
    """The manifest of the bill of materials of Split's image."""
    tag = f"{target.code_digest('split')}.sbom"
    ecr = target.boto.client("ecr")
    images = ecr.batch_get_image(repositoryName="medloop-split", imageIds=[{"imageTag": tag}])["images"]
    return json.loads(images[0]["imageManifest"]) if images else None


@pytest.mark.slow
def test_a_bill_of_materials_is_attached_to_a_pushed_image(target: Target) -> None:
    """By OCI's subject, so that it goes where the image goes; its blobs are in ECR, under their digests."""
    image = push_image(target, "split", run=Shell(target))
    push_sbom(target, "split", run=(shell := Shell(target)))
    manifest = stored_sbom(target)
    assert manifest is not None
    assert manifest["artifactType"] == manifest["layers"][0]["mediaType"] == "application/vnd.cyclonedx+json"
    assert manifest["subject"]["digest"] == image.digest
    descriptors = [manifest["config"], *manifest["layers"]]
    assert blobs(target, manifest) == [(item["digest"], item["size"]) for item in descriptors]
    assert shell.command("run")[-1].startswith("import json")
    push_sbom(target, "split", run=(again := Shell(target)))
    assert again.commands == []


@pytest.mark.slow
def test_an_image_of_an_earlier_push_gets_its_bill_of_materials(target: Target) -> None:
    """The engine of another computer pulls it: it logs in at the account's registry alone, and builds nothing."""
    push_image(target, "split", run=Shell(target))
    push_sbom(target, "split", run=(shell := Shell(target, working=["podman"])))
    assert [command[1] for command in shell.commands] == ["login", "run"]
    assert shell.command("login")[-1] == f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
    assert stored_sbom(target) is not None


@pytest.mark.slow
def test_a_bill_of_materials_that_cannot_be_attached_is_one_line(target: Target) -> None:
    """ECR's reason is in it; the image stays."""
    image = push_image(target, "split", run=Shell(target))

    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "InvalidParameterException", "Message": "no subject"}}, "PutImage")

    target.boto.events.register("before-parameter-build.ecr.PutImage", refuse)
    with pytest.raises(TargetError, match=r"medloop-split:.*bill of materials isn't attached.*no subject"):
        push_sbom(target, "split", run=Shell(target))
    assert find_image(target, "split").digest == image.digest


def test_images_that_are_pushed_need_no_engine(
    target: Target, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`images push` warns that they have no bill of materials yet, and succeeds."""
    image = push_image(target, "split", run=Shell(target))
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["images", "push", "split", "--json"], Services(open_target=lambda *_: target)) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)[0]["digest"] == image.digest
    assert "containers/split has no bill of materials in ECR: no container engine works here" in err


def test_no_image_has_no_bill_of_materials(target: Target) -> None:
    """ECR has neither."""
    target.boto.client("ecr").create_repository(repositoryName="medloop-split")
    with pytest.raises(TargetError, match=r"medloop-split:.*isn't in ECR; run `medloop images push`"):
        push_sbom(target, "split", run=Shell(target))


def test_an_engines_output_is_no_result(capfd: pytest.CaptureFixture[str]) -> None:
    """A command's own output may be JSON."""
    run_engine(ContainerEngine("echo"), ["STEP 1/9: FROM python"])
    out, err = capfd.readouterr()
    assert (out, err) == ("", "STEP 1/9: FROM python\n")


@pytest.mark.slow
def test_definitions_name_a_pushed_image_by_its_digest(target: Target) -> None:
    """Before it is pushed there is only the tag to name it by."""
    assert image_uri(target, "split").endswith(f"/medloop-split:{target.code_digest('split')}")
    image = push_image(target, "split", run=Shell(target))
    fresh = Target("aws", target.boto, target.bucket, target.role_arn, ACCOUNT, REGION)
    assert image_uri(fresh, "split") == f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/medloop-split@{image.digest}"
    assert find_image(fresh, "split") == image


def test_a_failed_build_is_one_line(target: Target) -> None:
    """What Docker said is above it."""
    with pytest.raises(TargetError, match=r"`docker login .*` failed \(exit code 1\)"):
        push_image(target, "split", run=Shell(target, code=1))
    assert find_image(target, "split").digest is None


@pytest.mark.parametrize("name", ["pytorch:2.14-cpu-amzn2023-sagemaker", "python:3.11-slim"])
def test_a_base_by_digest_keeps_it_in_each_region(name: str) -> None:
    """AWS's account changes with the region; what is built on doesn't."""
    by_digest = f"763104351884.dkr.ecr.us-east-1.amazonaws.com/{name}@sha256:{'a' * 64}"
    assert base_image_uri(by_digest, "eu-south-1").endswith(f"/{name}@sha256:{'a' * 64}")
    assert base_image_uri(by_digest, "eu-south-1").startswith("692866216735" if "pytorch" in name else "763104351884")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["podman", "buildah"])
def test_other_engines_push_dockers_format(target: Target, engine: str) -> None:
    """SageMaker takes plain images; Docker is installed here, but its daemon doesn't respond."""
    shell = Shell(target, working=[engine])
    assert push_image(target, "split", run=shell).digest is not None
    assert {command[0] for command in shell.commands} == {engine}
    assert shell.command("build")[1:4] == ["build", "--format", "docker"]
    assert shell.command("push")[1:4] == ["push", "--format", "v2s2"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, r"no container engine works here \(tried docker, podman, buildah\); install podman"),
        ("podman", r"no container engine works here \(tried podman\)"),
        ("kaniko", r"container engine 'kaniko' is unknown; use one of docker, podman, buildah"),
    ],
)
def test_no_engine_is_one_line(name: str | None, message: str) -> None:
    """The message names the fix."""
    with pytest.raises(TargetError, match=message):
        find_engine(name, Shell(working=()))


@pytest.mark.parametrize("engine", ["docker", "podman", "buildah"])
def test_a_local_build_takes_any_base_and_lists_what_is_in_the_image(engine: str, tmp_path: Path) -> None:
    """No account is needed; the bill of materials comes with it, with a licence for each package that names one."""
    shell = Shell(working=[engine])
    built = build_image("split", "python:3.12-slim", None, ["--volume=/wheels:/wheels:ro"], tmp_path / "sbom", shell)
    build = shell.command("build")
    assert (build[-2], "BASE_IMAGE=python:3.12-slim" in build) == ("--volume=/wheels:/wheels:ro", True)
    assert built.image == f"medloop-split:{make_bundle('split').digest}"
    bom = json.loads(built.sbom.read_text())
    assert built.sbom == tmp_path / "sbom" / "medloop-split.cdx.json"
    assert (bom["bomFormat"], bom["metadata"]["component"]["type"]) == ("CycloneDX", "container")
    licences = {package["purl"]: package.get("licenses") for package in bom["components"]}
    assert licences == {
        "pkg:pypi/numpy@2.4.6": [{"expression": "BSD-3-Clause AND MIT"}],
        "pkg:pypi/pillow@13.0.0": [{"license": {"id": "MIT-CMU"}}],
        "pkg:pypi/old@1": [{"license": {"name": "MIT License"}}],
        "pkg:pypi/none@1": None,
    }


def test_the_same_image_has_the_same_serial_number() -> None:
    """Another package is another bill."""
    numbers = [json.loads(make_sbom(text, "split", "tag"))["serialNumber"] for text in (REPORT, REPORT)]
    other = json.dumps([{"Name": "numpy", "Version": "2.4.5"}])
    assert numbers[0] == numbers[1] != json.loads(make_sbom(other, "split", "tag"))["serialNumber"]
