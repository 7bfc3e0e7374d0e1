"""A target: a place where pipelines run, and what a definition needs to know of it.

`local` is this machine, `aws` an account; nothing above this module knows which. medloop.cloud.sessions opens them.
The SDK is imported only when a pipeline is built: it takes seconds.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import boto3

from medloop.bundle import DIGEST_LENGTH, Bundle, Role, load_container, make_bundle
from medloop.cloud.base_images import base_image_uri, partition_of

if TYPE_CHECKING:
    from sagemaker.core.workflow.pipeline_context import PipelineSession

TargetName = Literal["local", "aws"]
_SDK_DEFAULTS = {"SAGEMAKER_VALIDATE_ROLE": "false"}


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
    job_roles: Mapping[Role, str] = field(default_factory=dict)
    """Roles of jobs, where the account has narrower ones than the pipeline's; see medloop.cloud.roles."""
    bundles: dict[str, Bundle] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Code by container, as requested by the definition's steps; upsert stores it."""
    images: dict[str, str | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Digests of images in ECR by container, as requested by the definition's steps; None if it isn't there."""
    objects: dict[str, bytes] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Objects by key that definitions built so far refer to, in addition to the bundles; upsert stores them."""

    def bundle(self, container: str) -> Bundle:
        """A container's code, packed once for this target's lifetime, so that one build sees one state of the files.

        Raises:
            SettingError: The container's folder is malformed.
        """
        if container not in self.bundles:
            self.bundles[container] = make_bundle(container)
        return self.bundles[container]

    def renewed(self) -> Target:
        """A copy for one build, without recorded bundles, images and objects."""
        return replace(self)

    def code_digest(self, container: str) -> str:
        """The digest that names a container's code."""
        return self.bundle(container).digest

    @property
    def inference_role_arn(self) -> str:
        """The role that models are served with."""
        return self.job_roles.get("inference", self.role_arn)

    def container_role(self, container: str) -> str:
        """The ARN of the role that a container declares for its jobs, the pipeline's where the account has none.

        Raises:
            SettingError: The container's folder is malformed.
        """
        role = load_container(container).role
        return self.job_roles.get(role, self.role_arn) if role else self.role_arn

    def function_arn(self, container: str) -> str:
        """The ARN of a container's Lambda function, and record its code for upsert."""
        self.bundle(container)
        return f"arn:{partition_of(self.region)['id']}:lambda:{self.region}:{self.account}:function:medloop-{container}"

    def base_image(self, container: str) -> str:
        """The URI of the image that a container builds on, in this target's region.

        Raises:
            SettingError: The container's folder is malformed, or AWS publishes no such image in the region.
        """
        return base_image_uri(load_container(container).base, self.region)

    def keep_folder(self, prefix: str, folder: Path) -> str:
        """Note a folder's files for upsert; returns the S3 URI of their prefix, which their contents name.

        Args:
            prefix: The prefix in the artefact bucket, without a slash at the end.
            folder: Any folder; Python's caches in it are left out.
        """
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }
        listing = json.dumps([(name, hashlib.sha256(data).hexdigest()) for name, data in files.items()])
        location = f"{prefix}/{hashlib.sha256(listing.encode()).hexdigest()[:DIGEST_LENGTH]}"
        self.objects.update({f"{location}/{name}": data for name, data in files.items()})
        return f"s3://{self.bucket}/{location}"

    def pipeline_session(self) -> PipelineSession:
        """The SDK's session under which steps are described, not run. Imports the SDK (4 to 9 s the first time)."""
        _quieten_sdk(self.region)
        # The SDK falls back to boto3's default session in places; a local run must not reach AWS with a developer's
        # own credentials. It is faster too: one session loads each service's model once.
        boto3.DEFAULT_SESSION = self.boto
        from sagemaker.core.workflow.pipeline_context import PipelineSession

        _check_configurations_once()
        session = PipelineSession(boto_session=self.boto, default_bucket=self.bucket)
        # Defaults files of the user's or the machine's own would change the definition behind the settings' back.
        session.sagemaker_config = {}
        return session


def sdk_variables() -> dict[str, str]:
    """The environment variables that the SDK reads in a build."""
    return _SDK_DEFAULTS | {name: value for name, value in os.environ.items() if name.startswith("SAGEMAKER_")}


@functools.cache
def _check_configurations_once() -> None:
    """Let the SDK check each configuration once in a process.

    It checks one, with the constant schema, at each look-up of a value in it: 0.1 s of CPU time each, up to nine times
    a build. An equal text is an equal configuration; one that is refused is checked, and refused, again.
    """
    from sagemaker.core.config.config_manager import SageMakerConfig

    check, passed = SageMakerConfig.validate_sagemaker_config, set[str]()

    def check_once(sagemaker_config: Mapping[str, Any] | None = None) -> None:
        text = repr(sagemaker_config)
        if text not in passed:
            check(sagemaker_config)
            passed.add(text)

    SageMakerConfig.validate_sagemaker_config = staticmethod(check_once)


def _quieten_sdk(region: str) -> None:
    """Set what the SDK reads at its import: a region, no IAM simulation, and errors as the only log level."""
    os.environ.setdefault("AWS_DEFAULT_REGION", region)
    os.environ.update(sdk_variables())
    for logger in ("sagemaker", "sagemaker.config", "sagemaker.core", "sagemaker.train", "sagemaker.mlops", "botocore"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="Running within a PipelineSession")
