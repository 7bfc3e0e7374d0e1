"""`medloop models approve | reject`: a person's decision about a model version, with its reason."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medloop.commands.options import Call, Services, on_target
from medloop.commands.output import print_json, print_line
from medloop.commands.registry.approval_checks import require_approvable
from medloop.commands.registry.decisions import (
    Decision,
    RecordedDecision,
    Status,
    current_decision,
    new_decision,
    record,
)
from medloop.commands.registry.definition_check import ACCEPT, compare_definition
from medloop.commands.registry.evidence_files import not_checked, read_report_file
from medloop.commands.registry.versions import find_model, name_of
from medloop.errors import MedloopError, UserError
from medloop.identity import Person, caller, user_here

if TYPE_CHECKING:
    from medloop.cloud.target import Target

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="ARN, GROUP/N, or GROUP for its newest version.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, 1,024 characters at most; kept with the version.")]
AsOption = Annotated[
    str | None,
    typer.Option("--as", help="Local target: who decides (default: user@host, who may not approve an own run)."),
]
DeployOption = Annotated[
    bool, typer.Option("--deploy", help="Then serve it on its endpoint, as `endpoints deploy` does.")
]
AcceptOption = Annotated[
    bool,
    typer.Option(
        ACCEPT,
        help="Approve although the execution's definition isn't the one that this checkout builds; it is recorded.",
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Continue if the version was decided upon before.")]


class OvertakenError(MedloopError):
    """Another decision, made at the same time, is in force instead."""


@on_target
def approve(
    model: ModelArgument,
    reason: ReasonOption,
    who: AsOption = None,
    yes: YesOption = False,
    deploy: DeployOption = False,
    accept: AcceptOption = False,
    *,
    call: Call,
) -> None:
    """Approve a version: it becomes the champion, and may be deployed. Refused where the evidence doesn't hold."""
    _decide(call, "Approved", model, reason, who, yes=yes, deploy=deploy, accept=accept)


@on_target
def reject(
    model: ModelArgument,
    reason: ReasonOption,
    who: AsOption = None,
    yes: YesOption = False,
    *,
    call: Call,
) -> None:
    """Reject a version, or take an approval back; endpoints that serve it keep running until they are changed."""
    _decide(call, "Rejected", model, reason, who, yes=yes)


def _decide(
    call: Call,
    status: Status,
    model: str,
    reason: str,
    who: str | None,
    *,
    yes: bool,
    deploy: bool = False,
    accept: bool = False,
) -> None:
    target, services = call.open(), call.services
    sagemaker = target.boto.client("sagemaker")
    package = sagemaker.describe_model_package(ModelPackageName=find_model(sagemaker, model))
    decision = decide(target, package, status, approver_of(target, who), reason)
    if status == "Approved":
        decision = replace(decision, definition=_check_definition(services, target, package, accept=accept))
    for warning in _warnings(package, status):
        _confirm(services, warning, yes)
    if status == "Approved" and not deploy and (unchecked := not_checked(package)):
        print_line(services.err, unchecked, style="yellow")
    recorded = record(sagemaker, package, decision)
    name, document = name_of(package), _document(package, recorded)
    stands = recorded.current.status == status
    if not call.json:
        _report(services, package, recorded)
    if stands and deploy:
        document["endpoint"] = _deploy(call, target, package)
    elif stands and status == "Approved":
        print_line(services.err, f"deploy it: medloop endpoints deploy {name}{call.flags}")
    if call.json:
        print_json(document)
    if not stands:
        raise OvertakenError(
            f"{name} is {recorded.current.status}: of an approval and a rejection at once the rejection stands. "
            f"Both are recorded; look with `medloop models show {name}{call.flags}`"
        )


def _check_definition(services: Services, target: Target, package: Mapping[str, Any], *, accept: bool) -> str:
    """The note for the record about the execution's definition; a local one that wasn't compared is a warning."""
    compared = compare_definition(services, target, package)
    compared.require(target.name, name_of(package), accept=accept)
    if compared.problem:
        print_line(services.err, f"{name_of(package)}: {compared.problem}", style="yellow")
    return compared.note if accept or not compared.problem else ""


def _deploy(call: Call, target: Target, package: Mapping[str, Any]) -> str:
    """Serve the version; returns the endpoint's name. The approval is recorded even if the deployment fails."""
    from medloop.commands.hosting.deployment import deploy_model

    done = deploy_model(call.services, target, package["ModelPackageArn"], flags=call.flags)
    if not call.json:
        print_line(call.services.out, f"endpoint {done.endpoint} serves {done.model}: {done.action}")
    return str(done.endpoint)


def decide(target: Target, package: Mapping[str, Any], status: Status, who: Person, reason: str) -> Decision:
    """A decision that may be recorded; an approval only where all that it stands on holds.

    Raises:
        UserError: The version can't be decided upon, or not approved; or the reason can't be kept.
    """
    new_decision(status, who.shown, reason, package)  # A problem of the reason is reported first.
    _require_decidable(package)
    approving = status == "Approved"
    page = require_approvable(target, package, who) if approving else read_report_file(target, package).digest
    return new_decision(status, who.shown, reason, package, page)


def approver_of(target: Target, name: str | None) -> Person:
    """The caller's identity on AWS; the user, or the name given, on this machine.

    Raises:
        UserError: A name was given on AWS, or it can't be recorded.
    """
    if target.name == "aws":
        if name is not None:
            raise UserError("--as is for --target local; on AWS the caller's own identity is recorded")
        return caller(target.boto.client("sts").get_caller_identity())
    who = user_here() if name is None else " ".join(name.split())
    if not who or not who.isprintable():
        raise UserError("--as is empty or has control characters; give the approver's name")
    return Person.from_names(who, [who])


def _require_decidable(package: Mapping[str, Any]) -> None:
    if package.get("ModelPackageStatus") != "Completed":
        raise UserError(
            f"{name_of(package)} is {package.get('ModelPackageStatus')}, not Completed; only a complete version can be "
            "decided upon"
        )


def _warnings(package: Mapping[str, Any], status: Status) -> list[str]:
    """Warnings to an approver before this decision, each a sentence; none for a version that waits."""
    warnings, name = [], name_of(package)
    before, known = package.get("ModelApprovalStatus"), current_decision(package)
    decided = str(known) if known else f"{before}: {package.get('ApprovalDescription') or 'no reason was recorded'}"
    if before == status:
        warnings.append(f"{name} is {status} already ({decided})")
    elif before == "Rejected":
        warnings.append(f"{name} was rejected before ({decided})")
    elif before == "Approved":
        warnings.append(f"{name} is Approved ({decided}); endpoints that serve it keep running until they are changed")
    return warnings


def _confirm(services: Services, warning: str, yes: bool) -> None:
    if yes:
        print_line(services.err, f"{warning}; continuing (--yes)", style="yellow")
        return
    if not (sys.stdin.isatty() and services.err.is_terminal):
        raise UserError(f"{warning}; nothing was changed. Give --yes to decide all the same")
    print_line(services.err, f"{warning}.", style="yellow")
    if not typer.confirm("Decide all the same?", err=True):
        raise UserError("nothing was changed")


def document_of(decision: Decision) -> dict[str, Any]:
    """A decision as JSON."""
    return {
        "status": decision.status,
        "by": decision.who,
        "at": decision.at,
        "reason": decision.reason,
        "page": decision.page or None,
        "definition": decision.definition or None,
    }


def _document(package: Mapping[str, Any], recorded: RecordedDecision) -> dict[str, Any]:
    return {
        "model": name_of(package),
        "arn": package["ModelPackageArn"],
        "before": package.get("ModelApprovalStatus"),
        "approval": recorded.current.status,
        "decision": document_of(recorded.decision),
        "stands": recorded.current == recorded.decision,
        "at_the_same_time": [document_of(decision) for decision in recorded.simultaneous],
    }


def _report(services: Services, package: Mapping[str, Any], recorded: RecordedDecision) -> None:
    """Say what was decided, by others at the same time too."""
    name, decision = name_of(package), recorded.decision
    for simultaneous in recorded.simultaneous:
        print_line(services.err, f"{name} was at the same time {simultaneous}", style="yellow")
    if recorded.current.status == decision.status:
        print_line(services.out, f"{name} is {decision.status} (was {package.get('ModelApprovalStatus')}), {decision}")
