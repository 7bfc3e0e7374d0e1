"""`medloop endpoints promote`: what is sent to production's bus, and what isn't."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from medloop.cloud.promotion import BUS_VARIABLE
from medloop.cloud.target import Target
from medloop.commands.hosting.promoting import promote_model
from medloop.definition.requests import operation_problems
from medloop.errors import MedloopError, TargetError, UserError

GROUP = "medloop-segmentation"
ARN = f"arn:aws:sagemaker:us-east-1:123456789012:model-package/{GROUP}/7"
BUS = "arn:aws:events:us-east-1:222222222222:event-bus/medloop-promotions"
MODEL = b"the model that was approved"
DIGEST = f"sha256:{hashlib.sha256(MODEL).hexdigest()}"
IMAGE = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/medloop-serve@sha256:{'a' * 64}"


@dataclass
class Account:
    """The clients of an account with one version, and the events that were put."""

    metadata: dict[str, str] = field(
        default_factory=lambda: {"image": IMAGE, "model_digest": DIGEST, "artefact_digest": DIGEST}
    )
    status: str = "Approved"
    model: bytes | None = MODEL
    image: str = IMAGE
    refusal: str = ""
    sent: list[dict[str, Any]] = field(default_factory=list)

    def client(self, _: str) -> Any:
        """Any client: this."""
        return self

    def describe_model_package(self, **_: str) -> dict[str, Any]:
        """The version."""
        return {
            "ModelPackageArn": ARN,
            "ModelPackageGroupName": GROUP,
            "ModelPackageVersion": 7,
            "ModelApprovalStatus": self.status,
            "InferenceSpecification": {"Containers": [{"Image": self.image, "ModelDataUrl": "s3://b/model.tar.gz"}]},
            "CustomerMetadataProperties": self.metadata,
        }

    def get_object(self, **_: str) -> dict[str, Any]:
        """The model as it is now."""
        if self.model is None:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        return {"Body": io.BytesIO(self.model)}

    def put_events(self, **request: Any) -> dict[str, Any]:
        """Take the events, or refuse them, as the service does: in its response."""
        self.sent.append(request)
        entry = (
            {"ErrorCode": "AccessDeniedException", "ErrorMessage": self.refusal} if self.refusal else {"EventId": "1"}
        )
        return {"FailedEntryCount": int(bool(self.refusal)), "Entries": [entry]}


def promote(account: Account, **options: bool) -> str:
    """Promote the account's version."""
    boto: Any = account
    return promote_model(Target("aws", boto, "b", "role", "123456789012", "us-east-1"), ARN, **options)


@pytest.fixture(autouse=True)
def bus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack's output."""
    monkeypatch.setenv(BUS_VARIABLE, BUS)


def test_an_approved_version_is_promoted_by_its_arn() -> None:
    """One event, as the service takes it; production's rule and its bus's policy are tested with tests/infra."""
    account = Account()
    assert promote(account) == f"{GROUP}/7"
    (request,) = account.sent
    model = boto3.client("events", region_name="us-east-1").meta.service_model
    assert list(operation_problems("PutEvents", request, model)) == []
    (entry,) = request["Entries"]
    assert (entry["EventBusName"], entry["Source"]) == (BUS, "medloop")
    assert json.loads(entry["Detail"]) == {"ModelPackageArn": ARN, "ModelPackageGroupName": GROUP}


def test_going_back_is_part_of_the_event() -> None:
    """Production replaces a newer version only then."""
    account = Account()
    promote(account, back=True)
    assert json.loads(account.sent[0]["Entries"][0]["Detail"])["Back"] is True


@pytest.mark.parametrize(
    ("account", "reason"),
    [
        (Account(status="PendingManualApproval"), "medloop-segmentation/7: it is PendingManualApproval; promote"),
        (Account(status="Rejected"), "it is Rejected"),
        (Account(model=b"another model"), "it was changed since; restore the file"),
        (Account(model=None), r"model\.tar\.gz: can't be read"),
        (Account(image=IMAGE.replace("a" * 64, "b" * 64)), "was registered: it was changed since"),
        (Account(image="an-image:latest"), "was registered: it was changed since"),
        (Account(metadata={"image": IMAGE}), "without its model's digest"),
        (Account(metadata={"model_digest": DIGEST, "artefact_digest": DIGEST}), "without its image's digest"),
        (Account(metadata={"image": IMAGE, "model_digest": DIGEST}), "its model is not checked"),
    ],
)
def test_what_is_not_what_was_approved_is_not_promoted(account: Account, reason: str) -> None:
    """In one line, and nothing is sent."""
    with pytest.raises(UserError, match=reason) as caught:
        promote(account)
    assert "\n" not in str(caught.value)
    assert account.sent == []


def test_a_bus_that_refuses_the_event_is_an_error() -> None:
    """PutEvents succeeds then, too: the refusal is in its response."""
    with pytest.raises(TargetError, match=f"{BUS}: AccessDeniedException: no policy; compare"):
        promote(Account(refusal="no policy"))


def test_without_another_account_nothing_is_promoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable and the output."""
    monkeypatch.delenv(BUS_VARIABLE)
    with pytest.raises(TargetError, match=f"{BUS_VARIABLE} is not set; set it to the stack's output Medloop"):
        promote(Account())


def test_a_group_is_no_version(medloop: Any) -> None:
    """Its newest version may be another one by the time that it is promoted."""
    assert medloop("endpoints", "promote", GROUP) == 2
    assert f"{GROUP}: names no version; give GROUP/N" in medloop.err


def test_the_local_backend_has_one_account(medloop: Any, tmp_path: Path) -> None:
    """The command says what to use there."""
    assert medloop("endpoints", "promote", ARN) == 2
    assert "add --target aws, or use endpoints deploy" in medloop.err
    assert issubclass(UserError, MedloopError)
