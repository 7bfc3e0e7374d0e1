"""Promotion to another account: what production does with an event, and the flow from event to endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.sagemaker.models import sagemaker_backends

from infra.app import make_app
from infra.deployment.plan import Serving
from infra.deployment.promotion import check_promoted, respond_to
from infra.names import PRODUCTION_STACK_NAME, PROMOTIONS_BUS
from infra.settings import ProductionSettings, Settings
from medloop.cloud.hosting import Hosting
from medloop.cloud.promotion import DETAIL_TYPE, promotion_entry
from medloop.documents.artefact import MODEL_DIGEST_VARIABLE
from tests.infra.flows import World, world
from tests.infra.template import ACCOUNT, REGION

REGISTRY = "999999999999"
VERSIONS = f"arn:aws:sagemaker:{REGION}:{REGISTRY}:model-package"
GROUP = "medloop-segmentation"
IMAGE = f"{REGISTRY}.dkr.ecr.{REGION}.amazonaws.com/medloop-serve@sha256:{'a' * 64}"
DIGEST = f"sha256:{'b' * 64}"
METADATA = {"image": IMAGE, "model_digest": DIGEST, "artefact_digest": DIGEST}
NOW = datetime(2027, 1, 1, tzinfo=UTC)
SERVING = Serving(
    hosting=Hosting(),
    role=f"arn:aws:iam::{ACCOUNT}:role/hosting",
    bucket="artefacts",
    endpoints=["medloop-classification", GROUP],
    deployment={"medloop-classification": {}, GROUP: {}},
    scaling={"minimum": 2, "maximum": 4, "invocations": 60},
    tags=[],
    registry=VERSIONS,
)


@dataclass
class Registry:
    """SageMaker's client, of what the two accounts hold."""

    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: list[dict[str, str]] = field(default_factory=list)

    def add(self, number: int, group: str = GROUP, **changes: Any) -> str:
        """Register a version; returns its ARN."""
        arn = f"{VERSIONS}/{group}/{number}"
        self.versions[arn] = {
            "ModelPackageArn": arn,
            # In the registry's own words: names of another account may come as ARNs.
            "ModelPackageGroupName": f"arn:aws:sagemaker:{REGION}:{REGISTRY}:model-package-group/{group}",
            "ModelApprovalStatus": "Approved",
            "InferenceSpecification": {"Containers": [{"Image": IMAGE, "ModelDataUrl": "s3://artefacts/model.tar.gz"}]},
            "CustomerMetadataProperties": METADATA,
            "CreationTime": NOW,
            **changes,
        }
        return arn

    def serve(self, number: int, status: str = "InService") -> None:
        """Let the endpoint serve a version."""
        config = f"{GROUP}-{number}-0123456789"
        self.endpoints[GROUP] = {"EndpointName": GROUP, "EndpointStatus": status, "EndpointConfigName": config}

    def describe_model_package(self, *, ModelPackageName: str) -> dict[str, Any]:  # noqa: N803
        """A version."""
        return _look_up(self.versions, ModelPackageName, "does not exist")

    def describe_endpoint(self, *, EndpointName: str) -> dict[str, Any]:  # noqa: N803
        """An endpoint."""
        return _look_up(self.endpoints, EndpointName, "Could not find endpoint")

    def describe_endpoint_config(self, **_: str) -> dict[str, Any]:
        """A configuration of the same kind of instance."""
        return {"ProductionVariants": [{"InstanceType": SERVING.hosting.instance_type}]}

    def get_paginator(self, _: str) -> Any:
        """Tags of any configuration."""
        return self

    def paginate(self, **_: str) -> list[dict[str, Any]]:
        """One page."""
        return [{"Tags": self.tags}]


def _look_up(known: dict[str, Any], name: str, message: str) -> Any:
    if name not in known:
        raise ClientError({"Error": {"Code": "ValidationException", "Message": f"{name} {message}"}}, "Describe")
    return known[name]


def promotion(arn: str, identifier: str = "e1", *, back: bool = False) -> dict[str, Any]:
    """The event, with what EventBridge and the sender give."""
    entry = promotion_entry("bus", arn, GROUP, back=back)
    return {"id": identifier, "source": entry["Source"], "detail": json.loads(entry["Detail"])}


def rejection(arn: str) -> dict[str, Any]:
    """The registry's own event."""
    return {"source": "aws.sagemaker", "detail": {"ModelPackageArn": arn, "ModelApprovalStatus": "Rejected"}}


def respond(registry: Registry, event: dict[str, Any]) -> dict[str, Any]:
    """What the function says to an event."""
    client: Any = registry
    return respond_to(event, SERVING, client)


def test_what_was_promoted_is_deployed_by_digest() -> None:
    """The model is made of the version's own ARN, and its containers get the digest of the model."""
    registry = Registry()
    arn = registry.add(7)
    plan = respond(registry, promotion(arn))
    assert (plan["action"], plan["model"], plan["endpoint"]) == ("deploy", f"{GROUP}/7", GROUP)
    assert plan["create_model"]["PrimaryContainer"] == {
        "ModelPackageName": arn,
        "Environment": {MODEL_DIGEST_VARIABLE: DIGEST},
    }
    assert plan["mark"]["ResourceArn"].startswith(f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint-config/{GROUP}-7-")


def test_a_newer_approved_version_is_not_deployed_in_its_place() -> None:
    """It wasn't promoted: it may not have been on the staging endpoint."""
    registry = Registry()
    promoted, _ = registry.add(7), registry.add(8)
    assert respond(registry, promotion(promoted))["model"] == f"{GROUP}/7"


def test_going_back_is_requested() -> None:
    """An event that comes late doesn't bring an older version back; a person does, and the mail names the command."""
    registry = Registry()
    older = registry.add(7)
    registry.serve(8)
    plan = respond(registry, promotion(older))
    assert plan["action"] == "tell"
    assert f"medloop endpoints promote {GROUP}/7 --back --target aws" in plan["message"]
    assert respond(registry, promotion(older, back=True))["action"] == "deploy"


def test_after_a_rollback_another_promotion_tries_again() -> None:
    """The repeated event of the first doesn't send images to the same version once more."""
    registry = Registry()
    registry.serve(6)
    arn = registry.add(7)
    first = respond(registry, promotion(arn, "e1"))
    registry.tags = first["mark"]["Tags"]
    assert respond(registry, promotion(arn, "e1"))["action"] == "nothing"
    assert respond(registry, promotion(arn, "e2"))["action"] == "deploy"


SWAPPED = [{"Image": IMAGE.replace("a" * 64, "c" * 64), "ModelDataUrl": "s3://artefacts/model.tar.gz"}]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ModelApprovalStatus": "PendingManualApproval"}, "it is PendingManualApproval"),
        ({"ModelApprovalStatus": "Rejected"}, "it is Rejected"),
        ({"InferenceSpecification": {"Containers": SWAPPED}}, "it was changed since"),
        ({"InferenceSpecification": {"Containers": []}}, "it was changed since"),
        ({"CustomerMetadataProperties": {"image": IMAGE}}, "without its model's digest"),
        ({"CustomerMetadataProperties": {**METADATA, "model_digest": "none"}}, "without its model's digest"),
        ({"CustomerMetadataProperties": {"model_digest": DIGEST}}, "without its image's digest"),
        ({"CustomerMetadataProperties": {**METADATA, "image": IMAGE.partition("@")[0]}}, "without its image's digest"),
        ({"CustomerMetadataProperties": None}, "without its model's digest"),
        ({"CustomerMetadataProperties": {**METADATA, "endpoint": "medloop-classification"}}, "serves another group"),
        ({"CustomerMetadataProperties": {**METADATA, "endpoint": "others"}}, "is none of this stack's"),
    ],
)
def test_what_is_not_what_was_approved_is_refused(changes: dict[str, Any], reason: str) -> None:
    """Operations get the reason."""
    registry = Registry()
    plan = respond(registry, promotion(registry.add(7, **changes)))
    assert plan["action"] == "tell"
    assert reason in plan["message"]


@pytest.mark.parametrize(
    "arn",
    [
        f"{VERSIONS}/others/7",
        f"{VERSIONS}/medloop-segmentation-lungs/7",
        f"{VERSIONS}/{GROUP}",
        f"{VERSIONS}/{GROUP}/0",
        f"{VERSIONS}/{GROUP}/7/8",
        f"{VERSIONS}x/{GROUP}/7",
        VERSIONS.replace(REGISTRY, "111111111111") + f"/{GROUP}/7",
        VERSIONS.replace(REGISTRY, ACCOUNT) + f"/{GROUP}/7",
        VERSIONS.replace(REGION, "eu-west-1") + f"/{GROUP}/7",
        f"{GROUP}/7",
    ],
)
def test_a_version_of_another_group_account_or_region_is_refused(arn: str) -> None:
    """Before it is read, though there is one of this name."""
    registry = Registry()
    registry.add(7)
    registry.versions[arn] = registry.versions[f"{VERSIONS}/{GROUP}/7"]
    for event in (promotion(arn), rejection(arn)):
        plan = respond(registry, event)
        assert plan["action"] == "tell"
        assert "is no version of" in plan["message"]


def test_a_version_that_is_gone_is_reported() -> None:
    """Nothing is deployed."""
    plan = respond(Registry(), promotion(f"{VERSIONS}/{GROUP}/7"))
    assert plan["action"] == "tell"
    assert "isn't there" in plan["message"]


def test_a_rejection_is_reported_where_the_version_is_served() -> None:
    """It changes nothing by itself; where another version is served it is no problem."""
    registry = Registry()
    arn = registry.add(7, ModelApprovalStatus="Rejected")
    registry.serve(7)
    plan = respond(registry, rejection(arn))
    assert (plan["action"], "medloop-segmentation/7 is Rejected and served" in plan["message"]) == ("tell", True)
    registry.serve(6)
    assert respond(registry, rejection(arn))["action"] == "nothing"


def test_a_late_rejection_of_a_version_that_is_approved_again_deploys_nothing() -> None:
    """Only a promotion does."""
    registry = Registry()
    arn = registry.add(7)
    registry.serve(6)
    assert respond(registry, rejection(arn))["action"] == "nothing"


@pytest.mark.parametrize(
    ("served", "status", "state", "message"),
    [
        (7, "Approved", "InService", None),
        (7, "Rejected", "InService", "medloop-segmentation/7 is not Approved and served"),
        (8, "Approved", "InService", "medloop-segmentation/8 is not Approved and served"),
        (7, "Approved", "Failed", "endpoint medloop-segmentation is Failed"),
        (None, "Approved", "InService", None),
    ],
)
def test_the_daily_check_looks_at_what_is_served(
    served: int | None, status: str, state: str, message: str | None
) -> None:
    """A version that was withdrawn, or deleted, or an endpoint that isn't in service; an older one is no problem."""
    registry = Registry()
    registry.add(7, ModelApprovalStatus=status)
    registry.add(9)
    if served:
        registry.serve(served, state)
    client: Any = registry
    response = check_promoted(GROUP, SERVING, client)
    assert response["action"] == ("tell" if message else "nothing")
    assert message is None or message in response["message"]
    assert message is None or "medloop endpoints promote" in response["message"]
    assert check_promoted("medloop-classification", SERVING, client)["action"] == "nothing"


@pytest.fixture(scope="module")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Production's stack for the account in which tests deploy; the registry is another."""
    folder = tmp_path_factory.mktemp("production")
    key = f"arn:aws:kms:{REGION}:{REGISTRY}:key/0a1b2c3d"
    production = ProductionSettings(account=ACCOUNT, artefact_bucket="artefacts", artefact_key=key)
    make_app(Settings(production=production), outdir=str(folder), validate=False).synth()
    return folder


@pytest.fixture
def account(assembly: Path) -> Iterator[World]:
    """Production's account with its stack, and the registry's with its group."""
    with world(assembly, PRODUCTION_STACK_NAME) as made:
        sagemaker_backends[REGISTRY][REGION].create_model_package_group(GROUP, "versions", None)
        yield made


def register(status: str = "Approved", **metadata: str) -> str:
    """A version in the registry's account; returns its ARN."""
    credentials = boto3.client("sts").assume_role(
        RoleArn=f"arn:aws:iam::{REGISTRY}:role/pipeline", RoleSessionName="test"
    )["Credentials"]
    sagemaker = boto3.Session(
        credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"], REGION
    ).client("sagemaker")
    made = sagemaker.create_model_package(
        ModelPackageGroupName=GROUP,
        InferenceSpecification={
            "Containers": [{"Image": IMAGE, "ModelDataUrl": "s3://artefacts/model.tar.gz"}],
            "SupportedContentTypes": [],
            "SupportedResponseMIMETypes": [],
        },
        ModelApprovalStatus=status,
        CustomerMetadataProperties={**METADATA, **metadata},
    )
    return str(made["ModelPackageArn"])


def promote(account: World, arn: str, sender: str = REGISTRY) -> list[str]:
    """Send what `medloop endpoints promote` sends; returns the executions that it started."""
    entry = promotion_entry(f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{PROMOTIONS_BUS}", arn, GROUP)
    detail = json.loads(entry["Detail"])
    return account.send(entry["Source"], entry["DetailType"], detail, sender=sender, bus=PROMOTIONS_BUS)


def test_a_promotion_becomes_an_endpoint_of_the_registrys_version(account: World) -> None:
    """The model in production names the version of the other account; the mail says what is served."""
    arn = register()
    assert f":{REGISTRY}:" in arn
    (execution,) = promote(account, arn)
    end = account.ended(execution)
    assert end["status"] == "SUCCEEDED", end
    config = account.sagemaker.describe_endpoint_config(EndpointConfigName=account.endpoint(GROUP).endpoint_config_name)
    model = account.sagemaker.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])
    assert model["PrimaryContainer"]["ModelPackageName"] == arn
    assert model["PrimaryContainer"]["Environment"] == {MODEL_DIGEST_VARIABLE: DIGEST}
    assert "serves" in account.mails("Approvers")[0]["Message"]


@pytest.mark.slow
def test_what_was_not_promoted_starts_nothing(account: World) -> None:
    """An event of another sender, source or bus; a version that isn't Approved is reported."""
    arn = register()
    assert promote(account, arn, sender="333333333333") == []
    detail = {"ModelPackageArn": arn, "ModelPackageGroupName": GROUP, "ModelApprovalStatus": "Approved"}
    for bus in (PROMOTIONS_BUS, "default"):
        kind = "SageMaker Model Package State Change"
        assert account.send("aws.sagemaker", kind, detail, sender=REGISTRY, bus=bus) == []
        assert account.send("others", DETAIL_TYPE, detail, sender=REGISTRY, bus=bus) == []
    (execution,) = promote(account, register("PendingManualApproval"))
    assert account.visited_by(execution)[-2:] == ["NotifyOperations", "Notified"]
    assert account.endpoint(GROUP) is None
    assert "it is PendingManualApproval" in account.mails("Operations")[0]["Message"]


@pytest.mark.slow
def test_the_daily_check_finds_a_version_that_was_withdrawn(account: World) -> None:
    """It runs by the function that the stack deploys."""
    arn = register()
    (execution,) = promote(account, arn)
    account.ended(execution)
    sagemaker_backends[REGISTRY][REGION].model_packages[arn].model_approval_status = "Rejected"
    for started in account.tick("medloop-daily-check"):
        account.ended(started)
    assert any("is not Approved and served" in mail["Message"] for mail in account.mails("Operations"))
