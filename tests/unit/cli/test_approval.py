"""`medloop models approve | reject` against the local backend, with other approvers between its calls."""

from __future__ import annotations

import json
import multiprocessing
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medloop.commands.objects import digest_of
from medloop.commands.registry.decisions import decisions_of, new_decision, record
from medloop.errors import UserError
from medloop.local.session import local_session
from tests.unit.cli.conftest import Desk
from tests.unit.cli.versions import PAGE, register

REASON = "AUROC 0.93 (n=40); better than v1: für „alle“ Gruppen, 100 % gesehen"


class Interrupted:
    """A client that lets something happen between a command's reading and its writing."""

    def __init__(self, sagemaker: Any, meanwhile: Callable[[], object]) -> None:
        """Wrap a client."""
        self._sagemaker, self._meanwhile, self._done = sagemaker, meanwhile, False

    def __getattr__(self, name: str) -> Any:
        """Every operation but UpdateModelPackage."""
        return getattr(self._sagemaker, name)

    def update_model_package(self, **request: Any) -> Any:
        """UpdateModelPackage, after what happens meanwhile."""
        if not self._done:
            self._done = True
            self._meanwhile()
        return self._sagemaker.update_model_package(**request)


def decide(sagemaker: Any, arn: str, status: Any, who: str, meanwhile: Callable[[], object] = lambda: None) -> Any:
    """A decision by someone who reads the version now and writes after `meanwhile`."""
    package = sagemaker.describe_model_package(ModelPackageName=arn)
    return record(Interrupted(sagemaker, meanwhile), package, new_decision(status, who, f"because {who}", package))


def test_approval_keeps_who_when_and_why(desk: Desk) -> None:
    """The reason stands in ApprovalDescription and, with approver and page, in the metadata; other entries stay."""
    (arn,) = register(desk.boto, metadata={"data": "d"})

    assert desk("models", "approve", "g/1", "--reason", REASON, "--as", "Dr. Näf, QM") == 0

    assert "g/1 is Approved (was PendingManualApproval)" in desk.out
    package = desk.package(arn)
    assert (package["ModelApprovalStatus"], package["ApprovalDescription"]) == ("Approved", REASON)
    assert package["CustomerMetadataProperties"]["data"] == "d"
    (decision,) = decisions_of(package)
    assert (decision.status, decision.who, decision.reason) == ("Approved", "Dr. Näf, QM", REASON)
    assert decision.page == digest_of(PAGE)
    assert desk("models", "show", "g/1", "--json") == 0
    shown = json.loads(desk.out)
    assert shown["decisions"][0]["by"] == "Dr. Näf, QM"
    assert shown["decisions"][0]["page"] == digest_of(PAGE)
    assert shown["metadata"]["data"] == "d"
    assert not [key for key in shown["metadata"] if key.startswith("deci")]


@pytest.mark.parametrize(
    ("reason", "message"),
    [("x" * 1025, "has 1025 characters"), ("  ", "--reason is empty"), ("two\nlines", "several lines")],
)
def test_a_reason_that_the_record_cannot_keep_is_refused(desk: Desk, reason: str, message: str) -> None:
    """Too long, empty or of several lines: refused with the count; nothing changes."""
    (arn,) = register(desk.boto)

    assert desk("models", "reject", "g/1", "--reason", reason) == 2

    assert message in desk.err
    assert desk.package(arn)["ModelApprovalStatus"] == "PendingManualApproval"


def test_reason_is_mandatory(desk: Desk) -> None:
    """Without --reason the command is refused."""
    register(desk.boto)
    assert desk("models", "approve", "g/1") == 2
    assert "--reason" in desk.err


@pytest.mark.slow
def test_longest_reason_of_other_scripts_is_kept_whole(desk: Desk) -> None:
    """1,024 characters, each of which takes escapes, come back as they were."""
    reason = "“,”;" * 256
    (arn,) = register(desk.boto)
    assert desk("models", "approve", "g/1", "--reason", reason) == 0
    assert decisions_of(desk.package(arn))[0].reason == reason


@pytest.mark.slow
def test_history_survives_later_decisions(desk: Desk) -> None:
    """Each decision stays readable after the next, in order."""
    (arn,) = register(desk.boto)
    assert desk("models", "approve", "g/1", "--reason", "first", "--as", "a") == 0
    assert desk("models", "reject", "g/1", "--reason", "second", "--as", "b", "--yes") == 0
    assert desk("models", "approve", "g/1", "--reason", "third", "--as", "c", "--yes") == 0

    decisions = [(d.status, d.who, d.reason) for d in decisions_of(desk.package(arn))]
    assert decisions == [("Approved", "a", "first"), ("Rejected", "b", "second"), ("Approved", "c", "third")]
    assert desk("models", "show", "g/1") == 0
    assert "Rejected by b: second" in desk.out


@pytest.mark.slow
def test_what_would_surprise_needs_yes(desk: Desk) -> None:
    """Approved twice, approved and now rejected, rejected before: each is reported; nothing changes without --yes."""
    _, second = register(desk.boto, 2)
    assert desk("models", "approve", "g/2", "--reason", "good", "--as", "a") == 0
    for command, message in [
        ("approve", "g/2 is Approved already (approved by a at"),
        ("reject", "endpoints that serve it keep running"),
    ]:
        assert desk("models", command, "g/2", "--reason", "r") == 2
        assert message in desk.err
        assert "--yes" in desk.err
    assert len(decisions_of(desk.package(second))) == 1
    assert desk("models", "reject", "g/2", "--reason", "r", "--yes") == 0
    assert desk("models", "reject", "g/1", "--reason", "poor") == 0
    assert desk("models", "approve", "g/1", "--reason", "r") == 2
    assert "g/1 was rejected before" in desk.err
    assert desk("models", "approve", "g/1", "--reason", "r", "--yes") == 0


def test_approval_and_rejection_at_once_leave_the_rejection(desk: Desk) -> None:
    """An approval written over a rejection that it did not know of gives way; both stay on record."""
    (arn,) = register(desk.boto)

    outcome = decide(
        desk.sagemaker, arn, "Approved", "a", meanwhile=lambda: decide(desk.sagemaker, arn, "Rejected", "b")
    )

    assert (outcome.current.status, outcome.current.who) == ("Rejected", "b")
    package = desk.package(arn)
    assert (package["ModelApprovalStatus"], package["ApprovalDescription"]) == ("Rejected", "because b")
    assert {d.who for d in decisions_of(package)} == {"a", "b"}


def test_rejection_over_an_unknown_approval_says_so(desk: Desk) -> None:
    """A rejection written over an approval that it did not know of stands, and names it."""
    (arn,) = register(desk.boto)

    outcome = decide(
        desk.sagemaker, arn, "Rejected", "b", meanwhile=lambda: decide(desk.sagemaker, arn, "Approved", "a")
    )

    assert outcome.current == outcome.decision
    assert [decision.who for decision in outcome.simultaneous] == ["a"]
    assert desk.package(arn)["ModelApprovalStatus"] == "Rejected"


@pytest.mark.slow
def test_an_approval_that_knew_the_rejection_stands(desk: Desk) -> None:
    """An approval that was made after the rejection is not overridden when the rejecter checks again."""
    (arn,) = register(desk.boto)
    package = desk.package(arn)
    rejecting = new_decision("Rejected", "b", "no", package)

    class Late(Interrupted):
        def describe_model_package(self, **request: Any) -> Any:
            """The second look comes after an approval."""
            if len(decisions_of(desk.package(arn))) == 1:
                decide(desk.sagemaker, arn, "Approved", "a")
            return self._sagemaker.describe_model_package(**request)

    outcome = record(Late(desk.sagemaker, lambda: None), package, rejecting)

    assert outcome.current.who == "a"
    assert desk.package(arn)["ModelApprovalStatus"] == "Approved"


def test_overtaken_approval_is_reported_with_exit_code_1(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line says that the rejection stands."""
    (arn,) = register(desk.boto)
    client = Interrupted(desk.sagemaker, lambda: decide(desk.sagemaker, arn, "Rejected", "b"))
    desk.boto = types.SimpleNamespace(
        client=lambda name, other_clients=desk.boto: client if name == "sagemaker" else other_clients.client(name)
    )

    assert desk("models", "approve", "g/1", "--reason", "fine", "--as", "a") == 1

    assert "the rejection stands" in desk.err
    assert "rejected by b" in desk.err


def test_a_full_record_is_refused_whole(desk: Desk) -> None:
    """Where the metadata has no room, nothing is written."""
    (arn,) = register(desk.boto, metadata={f"k{n}": "v" for n in range(44)})
    assert desk("models", "approve", "g/1", "--reason", "r") == 2
    assert "the service keeps 50" in desk.err
    assert desk.package(arn)["ModelApprovalStatus"] == "PendingManualApproval"


def test_an_overlong_name_is_refused(desk: Desk) -> None:
    """A name that no entry could hold is refused, not cut."""
    (arn,) = register(desk.boto)
    with pytest.raises(UserError, match="300 characters"):
        new_decision("Approved", "n" * 300, "r", desk.package(arn))


def _approve_or_reject(home: str, arn: str, number: int, start: Any) -> None:
    sagemaker = local_session(Path(home)).client("sagemaker")
    start.wait()
    decide(sagemaker, arn, "Approved" if number % 2 else "Rejected", f"p{number}")


@pytest.mark.slow
def test_four_processes_at_once_lose_nothing_and_agree(desk: Desk, tmp_path: Path) -> None:
    """Approvals and rejections by processes at the same time: each is on record, and the state is one of them."""
    (arn,) = register(desk.boto)
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(4)
    arguments = [(str(tmp_path / "home"), arn, number, start) for number in range(4)]
    processes = [context.Process(target=_approve_or_reject, args=argument) for argument in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]

    package = desk.package(arn)
    decisions = {d.identifier: d for d in decisions_of(package)}
    assert {d.who for d in decisions.values()} == {"p0", "p1", "p2", "p3"}
    current = decisions[package["CustomerMetadataProperties"]["decision"]]
    assert package["ModelApprovalStatus"] == current.status
    assert package["ApprovalDescription"] == current.reason


@pytest.mark.slow
def test_the_same_commands_on_aws(aws: Desk) -> None:
    """Against moto: the caller's identity is recorded, --as is refused, the history survives."""
    (arn,) = register(aws.boto, metadata={"data": "d"})
    assert aws("models", "approve", arn, "--reason", "r", "--as", "me") == 2
    assert "--as is for --target local" in aws.err
    assert aws("models", "approve", "g/1", "--reason", "good") == 0
    assert aws("models", "reject", "g/1", "--reason", "bad, after all", "--yes") == 0
    package = aws.package(arn)
    assert package["ModelApprovalStatus"] == "Rejected"
    decisions = decisions_of(package)
    assert [d.reason for d in decisions] == ["good", "bad, after all"]
    assert all(d.who.startswith("arn:aws:sts::") for d in decisions)
    assert package["CustomerMetadataProperties"]["data"] == "d"
