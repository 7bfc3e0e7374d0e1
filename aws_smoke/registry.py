"""Check `versions`: a model version with a complete card, in every approval status and card status."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from aws_smoke.check import Case, NotTriedError, UnexpectedError
from aws_smoke.executed import executed
from aws_smoke.lab import Lab
from medloop.cloud.layout import EXECUTIONS
from medloop.cloud.upsert import build_definition
from medloop.documents.file_names import ARCHIVE_FILE, EVALUATION_FILE
from medloop.settings import resolve
from pipelines.variants import STATED

APPROVALS = ("PendingManualApproval", "Rejected", "Approved")
CARDS = ("PendingReview", "Approved", "Archived")
"""Statuses that follow Draft, in which a version is registered; an archived card can't be changed."""


@dataclass
class ScratchGroup:
    """A model group of this run, and its versions.

    Args:
        lab: The account.
        suffix: The end of its name.
        image: The URI of the versions' image.
    """

    lab: Lab
    suffix: str
    image: str
    versions: dict[str, str] = field(default_factory=dict)
    """ARNs by the status at creation."""

    @property
    def name(self) -> str:
        """The group's name."""
        return self.lab.name(self.suffix)

    @cached_property
    def register_request(self) -> dict[str, Any]:
        """The Register step's request as an execution sends it, with this group, image and stored files."""
        target = self.lab.target
        definition = build_definition(target, resolve("classification", None, STATED))
        steps = {sent.step.type: sent.request for sent in executed(definition, target.account, target.region)}
        folder = f"{EXECUTIONS}/{self.name}/1"
        model = self.lab.put_object(target.bucket, f"{folder}/Train/{ARCHIVE_FILE}", empty_archive())
        evaluation = self.lab.put_object(target.bucket, f"{folder}/Evaluate/evaluation/{EVALUATION_FILE}", b"{}")
        request = steps["RegisterModel"]
        (container,) = request["InferenceSpecification"]["Containers"]
        container |= {"Image": self.image, "ModelDataUrl": model}
        request["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"] = evaluation
        return request | {"ModelPackageGroupName": self.name}

    def create(self) -> str:
        """Create the group."""
        request = {"ModelPackageGroupName": self.name, "Tags": self.lab.tags}
        self.lab.create("model group", self.name, "sagemaker:CreateModelPackageGroup", request)
        return self.name

    def register(self, status: str) -> str:
        """Register a version with a status; returns its ARN."""
        request = self.register_request | {"ModelApprovalStatus": status}
        response = self.lab.send("sagemaker", "CreateModelPackage", request)
        arn = self.versions[status] = str(response["ModelPackageArn"])
        self.lab.notes.append(("model version", arn))
        return arn

    def change(self, members: Mapping[str, Any], path: tuple[str, ...], value: str) -> str:
        """Change the first version, and see that it is described so.

        Raises:
            NotTriedError: No version could be registered.
            UnexpectedError: The service accepted the change and describes another value.
        """
        if not self.versions:
            raise NotTriedError("no version could be registered")
        arn = next(iter(self.versions.values()))
        self.lab.send("sagemaker", "UpdateModelPackage", {"ModelPackageArn": arn, **members})
        described: Any = self.lab.send("sagemaker", "DescribeModelPackage", {"ModelPackageName": arn})
        for name in path:
            described = described.get(name, {})
        if described != value:
            raise UnexpectedError(f"DescribeModelPackage: {'.'.join(path)} is {described!r}, expected {value!r}")
        return f"{'.'.join(path)} {value}"


def version_cases(lab: Lab) -> Iterator[Case]:
    """Yield the group, a version by each status, then each decision, then each status of the card."""
    group = ScratchGroup(lab, "versions", lab.target.base_image("serve"))
    yield Case("group", group.create)
    for status in APPROVALS:
        yield Case(f"full card, registered as {status}", partial(group.register, status))
    for status in (*APPROVALS[1:], APPROVALS[0]):
        decision = {"ModelApprovalStatus": status, "ApprovalDescription": "smoke test"}
        yield Case(f"changed to {status}", partial(group.change, decision, ("ModelApprovalStatus",), status))
    for status in CARDS:
        change = {"ModelCard": {"ModelCardStatus": status}}
        path = ("ModelCard", "ModelCardStatus")
        yield Case(f"card {status}", partial(group.change, change, path, status))


def empty_archive() -> bytes:
    """Return a model.tar.gz without a model."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    return content.getvalue()
