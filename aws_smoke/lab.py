"""The account during one run of the smoke test: names, clients, and what was created."""

from __future__ import annotations

import json
import re
import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore import xform_name
from botocore.config import Config

from aws_smoke.account import Stack
from medloop.cloud.base_images import partition_of
from medloop.cloud.target import Target

PREFIX = "medloop-smoke-"
TAG = "medloop:smoke"
"""Tag of everything that takes tags."""
RUN = re.compile(r"\d{6}-\d{6}-[0-9a-f]{2}")
"""A run's id: its date and time (UTC), and two random digits."""
_RETRIES = Config(retries={"mode": "standard", "max_attempts": 8})


def new_run(now: datetime) -> str:
    """Return the id of a new run, such as `261130-205103-a1`."""
    return f"{now:%y%m%d-%H%M%S}-{secrets.token_hex(1)}"


@dataclass
class Lab:
    """An account, and one run in it.

    Args:
        run: The run's id.
        target: The account as pipelines know it.
        stack: The deployed stack.
        sleep: Waits.
        now: The time, UTC.
    """

    run: str
    target: Target
    stack: Stack
    sleep: Callable[[float], None]
    now: Callable[[], datetime]
    notes: list[tuple[str, str]] = field(default_factory=list)
    """Kind and id of what was created, noted before the request is sent."""
    _clients: dict[str, Any] = field(default_factory=dict)

    @property
    def marker(self) -> str:
        """The part of names that all resources of this run have, and no others."""
        return f"smoke-{self.run}"

    @property
    def path(self) -> str:
        """The path of this run's IAM roles."""
        return f"/medloop-smoke/{self.run}/"

    @property
    def started(self) -> datetime:
        """The time that the run's id names, minus a minute for clocks that differ."""
        return datetime.strptime(self.run[:13], "%y%m%d-%H%M%S").replace(tzinfo=UTC) - timedelta(minutes=1)

    @property
    def tags(self) -> list[dict[str, str]]:
        """The tag, as services take it."""
        return [{"Key": TAG, "Value": self.run}]

    def name(self, suffix: str) -> str:
        """The name of a resource of this run."""
        return f"{PREFIX}{self.run}-{suffix}"

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource in the account and region."""
        partition = partition_of(self.target.region)["id"]
        return f"arn:{partition}:{service}:{self.target.region}:{self.target.account}:{resource}"

    def client(self, service: str) -> Any:
        """A client, which retries requests that were throttled."""
        if service not in self._clients:
            self._clients[service] = self.target.boto.client(service, config=_RETRIES)  # type: ignore[call-overload]
        return self._clients[service]

    def send(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and return the response.

        Raises:
            ClientError: The service refuses.
        """
        return dict(getattr(self.client(service), xform_name(operation))(**request))

    def create(self, kind: str, name: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Note what is to be created, so that it is deleted even if the response never arrives, and send the request.

        Args:
            kind: Of aws_smoke.resources.
            name: The id by which it is deleted.
            operation: `service:Operation`.
            request: Its parameters.

        Raises:
            ClientError: The service refuses.
        """
        self.notes.append((kind, name))
        service, _, verb = operation.partition(":")
        return self.send(service, verb, request)

    def create_pipeline(self, name: str, definition: str, role: str) -> str:
        """Create a pipeline; returns its ARN."""
        request = {
            "PipelineName": name,
            "PipelineDefinition": definition,
            "RoleArn": role,
            "ClientRequestToken": str(uuid.uuid4()),
            "Tags": self.tags,
        }
        return str(self.create("pipeline", name, "sagemaker:CreatePipeline", request)["PipelineArn"])

    def create_role(self, suffix: str, service: str, source_account: str) -> str:
        """Create a role that a service may assume if it names this source account; returns its ARN."""
        trust = {
            "Effect": "Allow",
            "Principal": {"Service": f"{service}.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:SourceAccount": source_account}},
        }
        name = self.name(suffix)
        request = {
            "Path": self.path,
            "RoleName": name,
            "AssumeRolePolicyDocument": policy(trust),
            "Description": "medloop: smoke test of the account, deleted after it",
            "Tags": self.tags,
        }
        return str(self.create("role", name, "iam:CreateRole", request)["Role"]["Arn"])

    def put_object(self, bucket: str, key: str, body: bytes) -> str:
        """Store an object of this run; returns its URI."""
        before, marker, after = key.partition(self.marker)
        prefix = f"{before}{marker}{after.partition('/')[0]}"
        request = {"Bucket": bucket, "Key": key, "Body": body}
        self.create("objects", f"{bucket}/{prefix}/", "s3:PutObject", request)
        return f"s3://{bucket}/{key}"

    def until(self, poll: Callable[[], Any], *, seconds: float, every: float, subject: str) -> Any:
        """Poll until the result is true, and return it.

        Raises:
            TimeoutError: It wasn't in time.
        """
        for _ in range(max(1, round(seconds / every))):
            if result := poll():
                return result
            self.sleep(every)
        raise TimeoutError(f"{subject}: not after {seconds / 60:g} minutes")


def policy(*statements: Mapping[str, Any] | Sequence[Any]) -> str:
    """Return a policy document as JSON text."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
