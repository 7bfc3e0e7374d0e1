"""Container images: built from a bundle by a container engine; in ECR pushed once per content, known by digest.

An image's tag is the digest of its code, and repositories are immutable, so a tag never means another image. The build
context is the unpacked bundle: an image holds what the local backend runs, and nothing else of the checkout.
"""

from __future__ import annotations

import base64
import contextlib
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from medloop.bundle import load_container, make_bundle
from medloop.cloud.attached_sbom import attach_sbom, has_sbom
from medloop.cloud.base_images import registry_domain
from medloop.cloud.container_engines import (
    ContainerEngine,
    Run,
    build_arguments,
    find_engine,
    list_packages,
    run_engine,
)
from medloop.documents.archive import BUNDLE_LIMITS, unpack
from medloop.errors import TargetError

if TYPE_CHECKING:
    from mypy_boto3_ecr.type_defs import ImageDetailTypeDef

    from medloop.cloud.target import Target

_ABSENT = {"ImageNotFoundException", "RepositoryNotFoundException"}
_ECR = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.[a-z.]+")
_SCAN_TRIES = 60


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


@dataclass(frozen=True)
class LocalImage:
    """An image that was built on this machine.

    Args:
        container: The folder below `containers/`.
        image: Its name and tag, the digest of its code.
        sbom: Its bill of materials.
    """

    container: str
    image: str
    sbom: Path


def build_image(
    container: str,
    base: str | None = None,
    engine: ContainerEngine | None = None,
    options: Sequence[str] = (),
    sbom_folder: Path = Path("sbom"),
    run: Run = subprocess.run,
) -> LocalImage:
    """Build a container's image for this machine, and write its bill of materials.

    Args:
        container: The folder below `containers/`.
        base: The image to build on; container.toml's by default.
        engine: The first that works here by default.
        options: More of the engine's build: mirrors of packages, volumes.
        sbom_folder: Gets `medloop-<container>.cdx.json`.
        run: Runs a command; as `subprocess.run`.

    Raises:
        SettingError: There is no such container.
        TargetError: No engine works here, or the build fails.
    """
    from medloop.cloud.sbom import make_sbom

    engine = engine or find_engine(run=run)
    bundle = make_bundle(container)
    image = f"{_repository(container)}:{bundle.digest}"
    _build(engine, bundle.data, container, base or load_container(container).base, image, run, options)
    sbom = sbom_folder / f"{_repository(container)}.cdx.json"
    sbom_folder.mkdir(parents=True, exist_ok=True)
    sbom.write_text(make_sbom(list_packages(engine, image, run), container, bundle.digest) + "\n", encoding="utf-8")
    return LocalImage(container, image, sbom)


def push_image(
    target: Target, container: str, engine: ContainerEngine | None = None, run: Run = subprocess.run
) -> Image:
    """Build and push a container's image, unless it is there.

    Args:
        target: An AWS target.
        container: The folder below `containers/`.
        engine: The first that works here by default.
        run: Runs a command; as `subprocess.run`.

    Raises:
        TargetError: No engine works here, it fails, or ECR refuses; the message says which.
    """
    present = find_image(target, container)
    if present.digest is not None:
        return present
    engine = engine or find_engine(run=run)
    _ensure_repository(target, container)
    base, tag = target.base_image(container), _tagged_uri(target, container)
    for registry in {_registry(target), *(match[0] for match in [_ECR.match(base)] if match)}:
        _log_in(target, registry, engine, run)
    _build(engine, target.bundle(container).data, container, base, tag, run)
    run_engine(engine, ["push", *engine.push, tag], run)
    _wait_for_scan(target, container)
    return find_image(target, container)


def push_sbom(target: Target, container: str, engine: ContainerEngine | None = None, run: Run = subprocess.run) -> None:
    """Attach the bill of materials to a container's pushed image, unless it has one.

    It is read from the image, which the engine pulls where it was built elsewhere.

    Raises:
        TargetError: No engine works here, it fails, or ECR refuses; the message says which.
    """
    from medloop.cloud.sbom import make_sbom

    ecr, repository, tag = target.boto.client("ecr"), _repository(container), target.code_digest(container)
    if has_sbom(ecr, repository, tag):
        return
    engine = engine or find_engine(run=run)
    _log_in(target, _registry(target), engine, run)
    packages = list_packages(engine, _tagged_uri(target, container), run)
    attach_sbom(ecr, repository, tag, make_sbom(packages, container, tag))


def _build(
    engine: ContainerEngine, bundle: bytes, container: str, base: str, tag: str, run: Run, options: Sequence[str] = ()
) -> None:
    with tempfile.TemporaryDirectory(prefix="medloop-image-") as scratch:
        context = Path(scratch)
        unpack(bundle, context, BUNDLE_LIMITS)
        arguments = build_arguments(engine, context, container, base, tag)
        run_engine(engine, [*arguments, *options, str(context)], run)


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


def _log_in(target: Target, registry: str, engine: ContainerEngine, run: Run) -> None:
    """The engine's login at a registry; the password goes by standard input, never into the list of processes."""
    match = _ECR.fullmatch(registry)
    region = match[2] if match else target.region
    try:
        token = target.boto.client("ecr", region_name=region).get_authorization_token()
    except (ClientError, BotoCoreError) as error:
        raise TargetError(f"target aws: no login at {registry} ({error}); allow ecr:GetAuthorizationToken") from error
    user, _, password = base64.b64decode(token["authorizationData"][0]["authorizationToken"]).decode().partition(":")
    run_engine(engine, ["login", "--username", user, "--password-stdin", registry], run, password)


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
