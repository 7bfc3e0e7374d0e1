"""Container images in ECR: built from a bundle by Docker's buildx, pushed once per content, known by digest.

An image's tag is the digest of its code, and repositories are immutable, so a tag never means another image. The build
context is the unpacked bundle: an image holds what the local backend runs, and nothing else of the checkout.
"""

from __future__ import annotations

import base64
import contextlib
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from medloop.cloud.base_images import registry_domain
from medloop.documents.archive import BUNDLE_LIMITS, unpack
from medloop.errors import TargetError

if TYPE_CHECKING:
    from mypy_boto3_ecr.type_defs import ImageDetailTypeDef

    from medloop.cloud.target import Target

_ABSENT = {"ImageNotFoundException", "RepositoryNotFoundException"}
_ECR = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.[a-z.]+")
_SCAN_TRIES = 60
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Image:
    """A container's image as it is in ECR.

    Args:
        container: The folder below `containers/`.
        tag: The digest of its code.
        digest: `sha256:…`; None where it hasn't been pushed.
        findings: Vulnerabilities found on push, by severity; None where the scan isn't there.
    """

    container: str
    tag: str
    digest: str | None
    findings: Mapping[Any, int] | None = None


def find_digest(target: Target, container: str) -> str | None:
    """The digest of the image of a container's code as it is now; None where it hasn't been pushed.

    Raises:
        TargetError: ECR can't be read.
    """
    detail = _describe(target, container)
    return None if detail is None else detail["imageDigest"]


def find_image(target: Target, container: str) -> Image:
    """The image of a container's code as it is now, with what its scan found.

    Raises:
        TargetError: ECR can't be read.
    """
    detail = _describe(target, container) or {}
    counts = detail.get("imageScanFindingsSummary", {}).get("findingSeverityCounts")
    return Image(container, target.code_digest(container), detail.get("imageDigest"), counts)


def push_image(target: Target, container: str, run: Run = subprocess.run) -> Image:
    """Build and push a container's image, unless it is there.

    Args:
        target: An AWS target.
        container: The folder below `containers/`.
        run: Runs `docker`; as `subprocess.run`.

    Raises:
        TargetError: Docker is missing or fails, or ECR refuses; the message says which.
    """
    present = find_image(target, container)
    if present.digest is not None:
        return present
    _ensure_repository(target, container)
    with tempfile.TemporaryDirectory(prefix="medloop-image-") as scratch:
        context = Path(scratch)
        unpack(target.bundle(container).data, context, BUNDLE_LIMITS)
        base = target.base_image(container)
        for registry in {_registry(target), *(match[0] for match in [_ECR.match(base)] if match)}:
            _log_in(target, registry, run)
        _docker(run, _build_command(target, container, base, context))
    _wait_for_scan(target, container)
    return find_image(target, container)


def image_uri(target: Target, container: str) -> str:
    """The URI of a container's image: by ECR's digest where it has been pushed; else the tag, its code's digest.

    Raises:
        TargetError: On AWS, ECR can't be read.
    """
    digest = None
    if target.name == "aws":
        digest = target.images[container] = find_digest(target, container)
    return f"{_registry(target)}/{_repository(container)}@{digest}" if digest else _tagged_uri(target, container)


def _tagged_uri(target: Target, container: str) -> str:
    return f"{_registry(target)}/{_repository(container)}:{target.code_digest(container)}"


def _repository(container: str) -> str:
    return f"medloop-{container}"


def _registry(target: Target) -> str:
    return f"{target.account}.{registry_domain(target.region)}"


def _build_command(target: Target, container: str, base: str, context: Path) -> list[str]:
    """SageMaker takes plain images alone: without the attestations that buildx would add as an index."""
    return [
        "docker", "buildx", "build", "--platform", "linux/amd64", "--provenance=false", "--sbom=false", "--push",
        "--build-arg", f"BASE_IMAGE={base}",
        "--file", str(context / "containers" / container / "Dockerfile"),
        "--tag", _tagged_uri(target, container),
        str(context),
    ]  # fmt: skip


def _describe(target: Target, container: str) -> ImageDetailTypeDef | None:
    ecr = target.boto.client("ecr")
    try:
        response = ecr.describe_images(
            repositoryName=_repository(container), imageIds=[{"imageTag": target.code_digest(container)}]
        )
    except ClientError as error:
        if error.response["Error"]["Code"] in _ABSENT:
            return None
        raise TargetError(f"target aws: ECR can't be read ({error}); allow ecr:DescribeImages") from error
    except BotoCoreError as error:
        raise TargetError(f"target aws: ECR can't be read ({error})") from error
    return response["imageDetails"][0]


def _ensure_repository(target: Target, container: str) -> None:
    """Make the repository where infra hasn't; where it has, who pushes needs no right to make one."""
    ecr = target.boto.client("ecr")
    with contextlib.suppress(ClientError, BotoCoreError):
        ecr.describe_repositories(repositoryNames=[_repository(container)])
        return
    try:
        ecr.create_repository(
            repositoryName=_repository(container),
            imageTagMutability="IMMUTABLE",
            imageScanningConfiguration={"scanOnPush": True},
            encryptionConfiguration={"encryptionType": "KMS"},
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "RepositoryAlreadyExistsException":
            raise TargetError(f"target aws: repository {_repository(container)} can't be made: {error}") from error


def _log_in(target: Target, registry: str, run: Run) -> None:
    """Docker's login at a registry; the password goes by standard input, never into the list of processes."""
    match = _ECR.fullmatch(registry)
    region = match[2] if match else target.region
    try:
        token = target.boto.client("ecr", region_name=region).get_authorization_token()
    except (ClientError, BotoCoreError) as error:
        raise TargetError(f"target aws: no login at {registry} ({error}); allow ecr:GetAuthorizationToken") from error
    user, _, password = base64.b64decode(token["authorizationData"][0]["authorizationToken"]).decode().partition(":")
    _docker(run, ["docker", "login", "--username", user, "--password-stdin", registry], password)


def _docker(run: Run, command: Sequence[str], text: str | None = None) -> None:
    try:
        done = run(list(command), input=text, text=True, check=False)
    except FileNotFoundError:
        raise TargetError("docker isn't installed here; install it with buildx, or build where it is") from None
    if done.returncode != 0:
        raise TargetError(f"`{' '.join(command[:3])}` failed (exit code {done.returncode}); see its output above")


def _wait_for_scan(target: Target, container: str) -> None:
    """Wait for the scan on push; without one (enhanced scanning takes over) there is nothing to wait for."""
    ecr = target.boto.client("ecr")
    try:
        ecr.get_waiter("image_scan_complete").wait(
            repositoryName=_repository(container),
            imageId={"imageTag": target.code_digest(container)},
            WaiterConfig={"Delay": 5, "MaxAttempts": _SCAN_TRIES},
        )
    except (ClientError, WaiterError):
        return
