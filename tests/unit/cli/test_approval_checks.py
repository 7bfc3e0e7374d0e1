"""Checks that no option of `medloop models approve` skips: evidence, champion, card fields, four eyes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from medloop.commands.objects import digest_of
from medloop.commands.registry.decisions import decisions_of
from medloop.identity import caller, starter, user_here
from medloop.local.state.home import BUCKET
from tests.unit.cli.conftest import Desk
from tests.unit.cli.versions import EXECUTION, PAGE, STARTER, answer_executions, card, identity, register

APPROVE = ("models", "approve", "g/1", "--reason", "r", "--as", "QM", "--yes")


def put(desk: Desk, name: str, body: bytes) -> None:
    """Overwrite one of the files behind g/1."""
    desk.boto.client("s3").put_object(Bucket=BUCKET, Key=f"e0/{name}", Body=body)


def refused(desk: Desk, arn: str, *messages: str) -> None:
    """`approve --yes` ends with 2 and one line that says so; the version waits on."""
    assert desk(*APPROVE) == 2
    assert desk.err.count("\n") == 1, desk.err
    for message in messages:
        assert message in desk.err
    package = desk.package(arn)
    assert package["ModelApprovalStatus"] == "PendingManualApproval"
    assert decisions_of(package) == []


@pytest.mark.slow
def test_evidence_that_holds_is_approved(desk: Desk) -> None:
    """What the refusals below take away is enough."""
    register(desk.boto)
    assert desk(*APPROVE) == 0, desk.err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["evaluation.json", "report.html"])
def test_missing_evidence(desk: Desk, name: str) -> None:
    """A file that is gone is named."""
    (arn,) = register(desk.boto)
    desk.boto.client("s3").delete_object(Bucket=BUCKET, Key=f"e0/{name}")
    refused(desk, arn, f"{name}: can't be read (s3://{BUCKET}/e0/{name}: NoSuchKey)", "run the pipeline again")


@pytest.mark.parametrize("name", ["evaluation.json", "report.html"])
def test_changed_evidence(desk: Desk, name: str) -> None:
    """A file that was tampered with is named with both digests."""
    (arn,) = register(desk.boto)
    put(desk, name, b"better than it was")
    refused(desk, arn, f"s3://{BUCKET}/e0/{name}: has the digest {digest_of(b'better than it was')}", "was registered")


@pytest.mark.slow
def test_a_version_without_evidence(desk: Desk) -> None:
    """Another tool's version, or a version without recorded digests."""
    (arn,) = register(desk.boto, ModelMetrics={})
    refused(desk, arn, "evaluation.json: can't be read (the version names no evaluation)")


def test_evidence_without_a_digest(desk: Desk) -> None:
    """A report without a recorded digest may be from any source."""
    (arn,) = register(desk.boto, CustomerMetadataProperties={"execution": EXECUTION, "champion": "none"})
    refused(desk, arn, "report.html: the version names no digest of it")


@pytest.mark.slow
def test_evidence_older_than_the_model(desk: Desk, tmp_path: Path) -> None:
    """A model that was overwritten after its evaluation is another model."""
    (arn,) = register(desk.boto)
    artefact = tmp_path / "home" / "s3" / BUCKET / "e0" / "model.tar.gz"
    later = artefact.stat().st_mtime + 5
    os.utime(artefact, (later, later))
    refused(desk, arn, "evaluation.json is older than the model", "model.tar.gz was written after it was evaluated")


def test_a_model_that_is_gone(desk: Desk) -> None:
    """The version can't be served, and the age of its model is unknown."""
    (arn,) = register(desk.boto)
    desk.boto.client("s3").delete_object(Bucket=BUCKET, Key="e0/model.tar.gz")
    refused(desk, arn, "model.tar.gz: can't be read")


@pytest.mark.parametrize(("name", "other"), [("code_digest", "c1"), ("data_digest", "d1"), ("champion", "arn:other")])
def test_evidence_of_another_model(desk: Desk, name: str, other: str) -> None:
    """The evaluation names other code, other data or another champion than the version."""
    (arn,) = register(desk.boto, metadata={name: other})
    refused(desk, arn, f"evaluation.json speaks of another model: its {name}")


@pytest.mark.parametrize("name", ["intended_use", "population", "exclusions", "reference_standard", "annotators"])
def test_a_statement_that_is_absent(desk: Desk, name: str) -> None:
    """Each of the five is named as the setting that it is."""
    (arn,) = register(desk.boto, ModelCard=card(**{name: " "}))
    refused(desk, arn, f"g/1 can't be approved: registration.{name} not stated; state", "results come from the cache")


def test_a_version_registered_as_not_for_approval(desk: Desk) -> None:
    """Its metadata names the settings; a card that was filled in later changes nothing."""
    (arn,) = register(desk.boto, metadata={"not_for_approval": "population annotators"})
    refused(desk, arn, "registration.population, registration.annotators not stated")


@pytest.mark.slow
def test_a_champion_that_is_one_no_longer(desk: Desk) -> None:
    """Two were compared with none; once one is Approved, the other has to be compared with it by the named command."""
    _, second = register(desk.boto, 2, metadata={"data": "s3://b/data/"})
    assert desk(*APPROVE) == 0
    assert desk("models", "approve", "g/2", "--reason", "r", "--as", "QM", "--yes") == 2
    assert "g/2 was compared with no version, and the newest Approved version is g/1" in desk.err
    assert "`medloop run classification --project '' --data s3://b/data/`" in desk.err
    assert desk.package(second)["ModelApprovalStatus"] == "PendingManualApproval"


@pytest.mark.slow
def test_a_champion_that_was_rejected_since(desk: Desk) -> None:
    """The version it was compared with is not Approved any more."""
    (first,) = register(desk.boto)
    assert desk(*APPROVE) == 0
    metadata = {"champion": first, "report_digest": digest_of(PAGE), "execution": EXECUTION}
    record = {"gate": {"champion": first}}
    request = register_compared(desk, metadata, record)
    assert desk("models", "reject", "g/1", "--reason", "r", "--yes") == 0
    assert desk("models", "approve", request, "--reason", "r", "--as", "QM") == 2
    assert "g/2 was compared with g/1, and the newest Approved version is no version" in desk.err


def register_compared(desk: Desk, metadata: dict[str, str], record: dict[str, Any]) -> str:
    """Register g/2 with these members of evaluation.json."""
    from tests.unit.cli.versions import store_evidence

    request = store_evidence(desk.boto.client("s3"), "later", **record) | {"CustomerMetadataProperties": metadata}
    made = desk.sagemaker.create_model_package(ModelPackageGroupName="g", **request)
    return str(made["ModelPackageArn"])


def test_a_version_compared_with_the_champion_is_approved(desk: Desk) -> None:
    """The newest Approved version is the one that it was compared with."""
    (first,) = register(desk.boto)
    assert desk(*APPROVE) == 0
    metadata = {"champion": first, "report_digest": digest_of(PAGE), "execution": EXECUTION}
    arn = register_compared(desk, metadata, {"gate": {"champion": first}})
    assert desk("models", "approve", arn, "--reason", "r", "--as", "QM") == 0, desk.err


@pytest.mark.slow
@pytest.mark.parametrize("name", [STARTER, STARTER.upper(), "trainer"])
def test_no_user_approves_their_own_training(desk: Desk, name: str) -> None:
    """In every spelling of the starter's name; the message names the fix: another person."""
    (arn,) = register(desk.boto)
    assert desk("models", "approve", "g/1", "--reason", "r", "--as", name, "--yes") == 2
    assert "must not approve their own training; another person approves: --as NAME" in desk.err
    assert desk.package(arn)["ModelApprovalStatus"] == "PendingManualApproval"


@pytest.mark.slow
def test_on_one_machine_the_default_is_the_one_who_ran_it(desk: Desk) -> None:
    """Without --as the approver is user@host, who started the run there."""
    answer_executions(desk.boto, identity(user_here()))
    register(desk.boto)
    assert desk("models", "approve", "g/1", "--reason", "r") == 2
    assert f"{user_here()} started execution abc123abc123" in desk.err


def test_a_starter_who_is_not_recorded(desk: Desk) -> None:
    """Neither an execution without CreatedBy nor a version without an execution can be approved."""
    answer_executions(desk.boto, {})
    (arn,) = register(desk.boto)
    refused(desk, arn, "who started the training isn't recorded with execution abc123abc123")


@pytest.mark.slow
def test_rejecting_is_always_allowed_and_records_the_page(desk: Desk) -> None:
    """Also to the starter, with evidence that was changed or is gone; the digest is that of the stored report."""
    first, second = register(desk.boto, 2, ModelCard=card(population=None))
    put(desk, "report.html", b"<script>")
    desk.boto.client("s3").delete_object(Bucket=BUCKET, Key="e1/report.html")
    for name in ("g/1", "g/2"):
        assert desk("models", "reject", name, "--reason", "r", "--as", STARTER) == 0, desk.err
    pages = [decisions_of(desk.package(arn))[0].page for arn in (first, second)]
    assert pages == [digest_of(b"<script>"), ""]


@pytest.mark.parametrize(
    ("who", "created_by", "same"),
    [
        ("alice", identity("alice"), True),
        ("Alice", identity("alice"), True),
        ("Zoe\u0308", identity("Zo\u00eb"), True),
        ("ali\u200bce", identity("alice"), True),
        ("alice@example.org", identity("alice"), True),
        ("alice@example.org", identity("alice@example.com"), False),
        ("bob", identity("alice"), False),
        ("bob", identity("alice") | {"UserProfileName": "bob"}, True),
        ("bob", {"UserProfileArn": "arn:aws:sagemaker:eu-west-1:1:user-profile/d-1/bob"}, True),
        ("bob", {"IamIdentity": {"Arn": "arn:aws:iam::1:user/team/bob", "PrincipalId": "AIDA1"}}, True),
        ("bob", {"IamIdentity": identity("s-1")["IamIdentity"] | {"SourceIdentity": "bob"}}, True),
        ("SageMaker", identity("SageMaker", "Studio"), True),
        ("bob", identity("VfMqYx0dGUARDexecution", "medloop-guard"), False),
    ],
)
def test_who_is_one_person_on_aws(who: str, created_by: dict[str, Any], same: bool) -> None:
    """By session, user, source identity or Studio profile, under any role; a state machine's session is no person."""
    began = starter(created_by)
    arn = f"arn:aws:sts::1:assumed-role/Approver/{who}"
    assert began is not None
    assert began.is_same(caller({"Arn": arn, "UserId": f"AROAAPPROVER:{who}"})) is same


@pytest.mark.slow
def test_refusals_are_the_same_as_json(desk: Desk) -> None:
    """A script reads nothing on stdout, one line on stderr, and 2."""
    register(desk.boto)
    put(desk, "evaluation.json", json.dumps({"score": 1}).encode())
    assert desk(*APPROVE, "--json") == 2
    assert desk.out == ""
