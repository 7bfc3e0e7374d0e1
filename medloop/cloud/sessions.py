"""Targets: where pipelines run. `local` is this machine, `aws` an account; nothing above this module knows which.

The SDK is imported only when a pipeline is built: it takes seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from medloop.bundle import DIGEST_LENGTH, Bundle, load_container, make_bundle
from medloop.cloud.roles import Job, roles_of_environment
from medloop.errors import TargetError

if TYPE_CHECKING:
    from sagemaker.core.workflow.pipeline_context import PipelineSession

TargetName = Literal["local", "aws"]
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


@dataclass(frozen=True)
class Target:
    """A place to run pipelines, and what a definition needs to know of it."""

    name: TargetName
    boto: boto3.Session
    bucket: str
    """The artefact bucket."""
    role_arn: str
    """The role of pipelines, and of jobs that `job_roles` has none for."""
    account: str
    region: str
    job_roles: Mapping[Job, str] = field(default_factory=dict)
    """Roles of jobs, where the account has narrower ones than the pipeline's; see medloop.cloud.roles."""
    _bundles: dict[str, Bundle] = field(default_factory=dict, init=False, repr=False, compare=False)
    _images: dict[str, str | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    kept: dict[str, bytes] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Objects by key that definitions built so far refer to, beside the bundles; upsert stores them."""

    def bundle(self, container: str) -> Bundle:
        """A container's code, packed once for this target's lifetime, so that one build sees one state of the files.

        Raises:
            SettingError: The container's folder is malformed.
        """
        if container not in self._bundles:
            self._bundles[container] = make_bundle(container)
        return self._bundles[container]

    def code_digest(self, container: str) -> str:
        """The digest that names a container's code."""
        return self.bundle(container).digest

    def image(self, container: str) -> str:
        """The URI of a container's image: by ECR's digest where it has been pushed; else the tag, its code's digest.

        Raises:
            TargetError: On AWS, ECR can't be read.
        """
        from medloop.cloud.images import digest_uri, find_digest, tagged_uri

        if self.name == "aws" and container not in self._images:
            self._images[container] = find_digest(self, container)
        digest = self._images.get(container)
        return digest_uri(self, container, digest) if digest else tagged_uri(self, container)

    @property
    def inference_role_arn(self) -> str:
        """The role that models are served with."""
        return self.job_roles.get("inference", self.role_arn)

    def function_arn(self, container: str) -> str:
        """The ARN of a container's Lambda function."""
        return f"arn:aws:lambda:{self.region}:{self.account}:function:medloop-{container}"

    def base_image(self, container: str) -> str:
        """The URI of the image that a container builds on, in this target's region.

        Raises:
            SettingError: The container's folder is malformed.
        """
        return re.sub(r"(?<=\.dkr\.ecr\.)[a-z0-9-]+(?=\.)", self.region, load_container(container).base)

    def keep_folder(self, prefix: str, folder: Path) -> str:
        """Note a folder's files for upsert; returns the S3 URI of their prefix, which their contents name.

        Args:
            prefix: Where in the artefact bucket, without a slash at the end.
            folder: Any folder; Python's caches in it are left out.
        """
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }
        listing = json.dumps([(name, hashlib.sha256(data).hexdigest()) for name, data in files.items()])
        place = f"{prefix}/{hashlib.sha256(listing.encode()).hexdigest()[:DIGEST_LENGTH]}"
        self.kept.update({f"{place}/{name}": data for name, data in files.items()})
        return f"s3://{self.bucket}/{place}"

    def pipeline_session(self) -> PipelineSession:
        """The SDK's session under which steps are described, not run. Imports the SDK (4 to 9 s the first time)."""
        _quieten_sdk(self.region)
        # The SDK falls back to boto3's default session in places; a local run must not reach AWS with a developer's
        # own credentials. It is faster too: one session loads each service's model once.
        boto3.DEFAULT_SESSION = self.boto
        from sagemaker.core.workflow.pipeline_context import PipelineSession

        session = PipelineSession(boto_session=self.boto, default_bucket=self.bucket)
        # Defaults files of the user's or the machine's own would change the definition behind the settings' back.
        session.sagemaker_config = {}
        return session


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

    Only around those calls, because each of the SDK's look-ups in a non-empty configuration validates it anew
    (0.2 s each, 9 s a pipeline).
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
        raise TargetError(f"target aws: {error}; mend AWS_PROFILE or your AWS configuration") from None
    if session.region_name is None:
        raise TargetError("target aws: no region; set AWS_DEFAULT_REGION")
    bucket = _required(BUCKET_VARIABLE, "the artefact bucket's name")
    role = _required(ROLE_VARIABLE, "the ARN of the role of pipelines and jobs")
    try:
        account = session.client("sts").get_caller_identity()["Account"]
    except (BotoCoreError, ClientError) as error:
        raise TargetError(f"target aws: no access to the account ({error}); sign in first") from None
    return Target("aws", session, bucket, role, account, session.region_name, roles_of_environment())


def _required(variable: str, meaning: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise TargetError(f"target aws: {variable} is not set; set it to {meaning}")
    return value


def _quieten_sdk(region: str) -> None:
    """What the SDK must find before its import: a region, no IAM simulation, and no permission to chatter."""
    os.environ.setdefault("AWS_DEFAULT_REGION", region)
    os.environ.setdefault("SAGEMAKER_VALIDATE_ROLE", "false")
    for logger in ("sagemaker", "sagemaker.config", "sagemaker.core", "sagemaker.train", "sagemaker.mlops", "botocore"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="Running within a PipelineSession")
