"""A model or image that was replaced after its registration is neither approved nor deployed, and `show` says so."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medloop.cloud.hosting import Hosting
from medloop.cloud.target import Target
from medloop.commands.hosting.deployment import deploy_model
from medloop.commands.objects import digest_of
from medloop.commands.options import Services
from medloop.commands.registry.decisions import decisions_of
from medloop.errors import UserError
from medloop.local.state.home import BUCKET
from tests.unit.cli.conftest import Desk
from tests.unit.cli.versions import (
    WEIGHTS,
    register,
    store_evidence,
)

APPROVE = ("models", "approve", "g/1", "--reason", "r", "--yes")
SWAPPED = {
    "another model": b"another model",
    "of the same size": b"weightz",
    "with bytes after its end": WEIGHTS + b"\0",
    "empty": b"",
}
INCOMPLETE = {"SupportedContentTypes": ["image/png"], "SupportedResponseMIMETypes": ["application/json"]}


def swap(desk: Desk, body: bytes) -> None:
    """Replace g/1's model; locally it seems as old as before."""
    s3 = desk.boto.client("s3")
    written = s3.head_object(Bucket=BUCKET, Key="e0/model.tar.gz")["LastModified"].timestamp()
    s3.put_object(Bucket=BUCKET, Key="e0/model.tar.gz", Body=body)
    stored = Path(os.environ["MEDLOOP_HOME"], "s3", BUCKET, "e0", "model.tar.gz")
    if desk.target == "local":
        os.utime(stored, (written, written))


def refused(desk: Desk, arn: str, *messages: str) -> None:
    """`approve` ends with 2 and one line; the version waits."""
    who = ("--as", "QM") if desk.target == "local" else ()
    assert desk(*APPROVE, *who) == 2, desk.out
    assert desk.err.count("\n") == 1, desk.err
    for message in messages:
        assert message in desk.err
    assert desk.package(arn)["ModelApprovalStatus"] == "PendingManualApproval"
    assert decisions_of(desk.package(arn)) == []


def approved(desk: Desk, arn: str) -> str:
    """Set the status without the command; the metadata are repeated, as moto drops what isn't."""
    metadata = desk.package(arn)["CustomerMetadataProperties"]
    desk.sagemaker.update_model_package(
        ModelPackageArn=arn, ModelApprovalStatus="Approved", CustomerMetadataProperties=metadata
    )
    return arn


def deploy(desk: Desk, arn: str, hosting: Hosting | None = None) -> Any:
    """`endpoints deploy`."""
    target = Target(desk.target, desk.boto, BUCKET, "arn:aws:iam::0:role/r", "0", "us-east-1")  # type: ignore[arg-type]
    return deploy_model(Services(sleep=lambda _: None), target, arn, hosting=hosting or Hosting())


def name_container(desk: Desk, arn: str, **changed: str) -> None:
    """Change the container that a version names, as an approver's UpdateModelPackage may."""
    container = {"Image": "image", "ModelDataUrl": f"s3://{BUCKET}/e0/model.tar.gz"} | changed
    specification = {"Containers": [container], **INCOMPLETE}
    desk.sagemaker.update_model_package(ModelPackageArn=arn, InferenceSpecification=specification)


@pytest.mark.parametrize("body", SWAPPED.values(), ids=SWAPPED)
def test_a_swapped_model_is_not_approved(desk: Desk, body: bytes) -> None:
    """Both digests are named, however old the file seems."""
    (arn,) = register(desk.boto)
    swap(desk, body)
    message = (
        f"s3://{BUCKET}/e0/model.tar.gz: has the digest {digest_of(body)}, and {digest_of(WEIGHTS)} was registered"
    )
    refused(desk, arn, message)


@pytest.mark.slow
@pytest.mark.parametrize("body", SWAPPED.values(), ids=SWAPPED)
def test_a_swapped_model_is_not_approved_on_aws(aws: Desk, body: bytes) -> None:
    """In moto's account, by the same line."""
    (arn,) = register(aws.boto)
    swap(aws, body)
    refused(aws, arn, f"has the digest {digest_of(body)}, and {digest_of(WEIGHTS)} was registered")


@pytest.mark.slow
@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize(
    "hosting", [Hosting(), Hosting(kind="async"), Hosting(kind="serverless")], ids=lambda hosting: hosting.kind
)
def test_a_swapped_model_is_not_deployed_on_aws(aws: Desk, hosting: Hosting, gone: bool) -> None:
    """After the approval, in every kind of hosting: nothing is created."""
    arn = approved(aws, register(aws.boto)[0])
    swap(aws, b"another model")
    if gone:
        aws.boto.client("s3").delete_object(Bucket=BUCKET, Key="e0/model.tar.gz")
    message = r"can't be read \(.*NoSuchKey\)" if gone else "has the digest .* was registered"
    with pytest.raises(UserError, match=rf"model\.tar\.gz: {message}"):
        deploy(aws, arn, hosting)
    assert aws.sagemaker.list_models()["Models"] == []
    assert aws.sagemaker.list_endpoint_configs()["EndpointConfigs"] == []


@pytest.mark.parametrize("gone", [False, True])
def test_a_swapped_model_is_not_deployed(desk: Desk, gone: bool) -> None:
    """On the local target too: no model is recorded."""
    arn = approved(desk, register(desk.boto)[0])
    swap(desk, b"another model")
    if gone:
        desk.boto.client("s3").delete_object(Bucket=BUCKET, Key="e0/model.tar.gz")
    with pytest.raises(UserError, match=r"model\.tar\.gz: (has the digest|can't be read)"):
        deploy(desk, arn)
    assert desk.sagemaker.list_models()["Models"] == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"Image": "other"}, "g/1: it names the image other, and image was registered"),
        ({"ModelDataUrl": f"s3://{BUCKET}/e1/model.tar.gz"}, "e1/model.tar.gz: has the digest"),
    ],
)
def test_another_container_than_the_registered_one(desk: Desk, changed: dict[str, str], message: str) -> None:
    """UpdateModelPackage may name another image or model: neither approved nor deployed."""
    arn, _ = register(desk.boto, 2)
    desk.boto.client("s3").put_object(Bucket=BUCKET, Key="e1/model.tar.gz", Body=b"another model")
    name_container(desk, arn, **changed)
    refused(desk, arn, message)
    approved(desk, arn)
    with pytest.raises(UserError, match=message.replace("/", ".")):
        deploy(desk, arn)
    assert desk.sagemaker.list_models()["Models"] == []


@pytest.mark.parametrize("recorded", [digest_of(b"another model"), None], ids=["replaced", "removed"])
def test_metadata_that_were_changed_with_the_model(desk: Desk, recorded: str | None) -> None:
    """evaluation.json, whose digest can't be changed, names the model that was evaluated."""
    data = {"artefact_digest": digest_of(WEIGHTS), "model_digest": "sha256:0"}
    request = store_evidence(desk.boto.client("s3"), "e0", data=data)
    desk.sagemaker.create_model_package_group(ModelPackageGroupName="g")
    request["CustomerMetadataProperties"] |= {"model_digest": "sha256:0"}
    arn = desk.sagemaker.create_model_package(ModelPackageGroupName="g", **request)["ModelPackageArn"]
    swap(desk, b"another model")
    change = {"CustomerMetadataPropertiesToRemove": ["artefact_digest"]}
    if recorded:
        change = {"CustomerMetadataProperties": {"artefact_digest": recorded}}  # type: ignore[dict-item]
    desk.sagemaker.update_model_package(ModelPackageArn=arn, **change)
    message = f"its metadata name {recorded or 'no digest'} as artefact_digest, and {digest_of(WEIGHTS)} was evaluated"
    refused(desk, arn, message)
    with pytest.raises(UserError, match="was evaluated"):
        deploy(desk, approved(desk, arn))


def test_the_files_digest_is_bound_too(desk: Desk) -> None:
    """A digest for containers that isn't the evaluated one."""
    data = {"artefact_digest": digest_of(WEIGHTS), "model_digest": "sha256:0"}
    desk.sagemaker.create_model_package_group(ModelPackageGroupName="g")
    request = store_evidence(desk.boto.client("s3"), "e0", data=data)
    arn = desk.sagemaker.create_model_package(ModelPackageGroupName="g", **request)["ModelPackageArn"]
    refused(desk, arn, "evaluation.json speaks of another model: its model_digest is sha256:0, the version's is none")


def test_show_says_whether_the_digest_holds(desk: Desk) -> None:
    """As of the report: holds, changed, gone; and another image."""
    (arn,) = register(desk.boto)

    def state() -> str:
        assert desk("models", "show", "g/1", "--json") == 0
        return str(json.loads(desk.out)["artefact_state"])

    assert state() == "digest holds"
    swap(desk, b"another model")
    assert state() == f"changed: {digest_of(b'another model')} now, {digest_of(WEIGHTS)} then"
    name_container(desk, arn, Image="other")
    assert desk("models", "show", "g/1") == 0
    assert "it names the image other" in desk.out
    desk.boto.client("s3").delete_object(Bucket=BUCKET, Key="e0/model.tar.gz")
    assert state() == f"can't be read (s3://{BUCKET}/e0/model.tar.gz: NoSuchKey)"


def test_a_version_of_before_is_approved_with_a_warning(desk: Desk) -> None:
    """No digest was registered: shown, approved and deployed as before, in one line that says so."""
    (arn,) = register(desk.boto)
    desk.sagemaker.update_model_package(
        ModelPackageArn=arn, CustomerMetadataPropertiesToRemove=["artefact_digest", "image"]
    )
    assert desk("models", "show", "g/1") == 0
    assert "no digest was registered" in desk.out
    assert desk(*APPROVE, "--as", "QM") == 0, desk.err
    assert "g/1 was registered before digests of models; its model is not checked\n" in desk.err
    assert desk.package(arn)["ModelApprovalStatus"] == "Approved"


@pytest.mark.slow
def test_a_deployer_without_the_right_to_read_models(aws: Desk) -> None:
    """Deployment continues: the containers check the model by the variable that they get."""
    arn = approved(aws, register(aws.boto, metadata={"model_digest": "sha256:0"})[0])

    def deny(**_: Any) -> Any:
        return SimpleNamespace(status_code=403), {"Error": {"Code": "AccessDenied", "Message": "no"}}

    aws.boto.events.register("before-call.s3.GetObject", deny)
    assert deploy(aws, arn).action == "created"
    (model,) = aws.sagemaker.list_models()["Models"]
    container = aws.sagemaker.describe_model(ModelName=model["ModelName"])["PrimaryContainer"]
    assert container["Environment"] == {"MEDLOOP_MODEL_SHA256": "sha256:0"}
    aws.boto.events.unregister("before-call.s3.GetObject", deny)
