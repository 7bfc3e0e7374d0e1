"""Approvers' decisions about a model version, recorded in the version itself, so that none is ever lost.

Each decision adds entries of its own to CustomerMetadataProperties, under a name that no other decision has:
`decision_<time>_<random>` says what and who, `..._reason_<n>` why, `..._page` the digest of the report that the
approver saw, `..._definition_<n>` whether the execution's definition is the one of the approver's checkout.
UpdateModelPackage has no condition, so two decisions at once are detected by a read after the write: an entry that was
not there before is a decision that this one did not know of. Of an approval and a rejection made at once, the rejection
stands: the safe one.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from medloop.documents.metadata import MAX_ENTRIES, MAX_VALUE, decode, encode, pieces
from medloop.errors import UserError

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

Status = Literal["Approved", "Rejected"]
MAX_REASON = 1024
"""Characters of ApprovalDescription, the service's own limit."""
CURRENT = "decision"
"""The entry that names the decision in force; `decided_by` and `decided_at` are there for other readers."""
_ENTRY = re.compile(r"decision_(\d{8}T\d{6}\.\d{6}Z_[0-9a-f]{6})")
_VALUE = re.compile(r"(Approved|Rejected)(?: after (\S+))? by (.+)")
_TIME = "%Y%m%dT%H%M%S.%fZ"
_ATTEMPTS = 5


@dataclass(frozen=True)
class Decision:
    """One decision.

    Args:
        identifier: Time and a random part; the order of identifiers is the order of decisions.
        status: The outcome.
        who: The approver.
        reason: The approver's reason.
        after: The decision that was in force when this one was made, and is replaced by it; "" if there was none.
        page: The digest of the report as it was then, `sha256:...`; "" where there was none to read.
        definition: The origin of the execution's definition, as checked then; "" where it wasn't compared.
    """

    identifier: str
    status: Status
    who: str
    reason: str
    after: str = ""
    page: str = ""
    definition: str = ""

    @property
    def at(self) -> datetime:
        """The time of the decision, in UTC."""
        return datetime.strptime(self.identifier.partition("_")[0], _TIME).replace(tzinfo=UTC)

    def __str__(self) -> str:
        """One phrase."""
        return f"{self.status.lower()} by {self.who} at {self.at:%Y-%m-%d %H:%M:%S} UTC: {self.reason}"


@dataclass(frozen=True)
class RecordedDecision:
    """A decision as it was recorded, with those made at the same time.

    Args:
        decision: The decision that was recorded.
        current: The decision in force now.
        simultaneous: Decisions made at the same time, of which the approver could not know.
    """

    decision: Decision
    current: Decision
    simultaneous: tuple[Decision, ...]


def new_decision(
    status: Status, who: str, reason: str, package: Mapping[str, Any], page: str | None = None
) -> Decision:
    """A decision of now, by someone who saw the version as `package` describes it, and the page of that digest.

    Raises:
        UserError: The reason is empty, of several lines or too long for the service, or the name too long.
    """
    reason = reason.strip()
    if not reason:
        raise UserError("--reason is empty; say why, for those who read the record later")
    if len(reason) > MAX_REASON:
        raise UserError(f"--reason has {len(reason)} characters; the service keeps {MAX_REASON}: shorten it")
    if any(not (character.isprintable() or character.isspace()) for character in reason) or "\n" in reason:
        raise UserError("--reason has several lines or control characters; give it as one line of text")
    identifier = f"{datetime.now(UTC).strftime(_TIME)}_{secrets.token_hex(3)}"
    decision = Decision(identifier, status, who, reason, _named(package), page or "")
    if len(_value(decision)) > MAX_VALUE:
        raise UserError(f"the approver's name has {len(who)} characters, too many for the record; give a shorter one")
    return decision


def decisions_of(package: Mapping[str, Any]) -> list[Decision]:
    """All decisions about a version, the oldest first."""
    metadata: Mapping[str, str] = package.get("CustomerMetadataProperties") or {}
    decisions = []
    for key, value in metadata.items():
        entry, content = _ENTRY.fullmatch(key), _VALUE.fullmatch(value)
        if entry and content:
            status: Status = "Approved" if content[1] == "Approved" else "Rejected"
            reason, page = _text(metadata, f"{key}_reason"), metadata.get(f"{key}_page", "")
            by, definition = decode(content[3]), _text(metadata, f"{key}_definition")
            decisions.append(Decision(entry[1], status, by, reason, content[2] or "", page, definition))
    return sorted(decisions, key=lambda decision: decision.identifier)


def current_decision(package: Mapping[str, Any]) -> Decision | None:
    """The decision in force; None where medloop recorded none, or the status was changed by other means since."""
    decision = next((d for d in decisions_of(package) if d.identifier == _named(package)), None)
    return decision if decision and decision.status == package.get("ModelApprovalStatus") else None


def is_decision_entry(key: str) -> bool:
    """True if a metadata entry belongs to the record of decisions."""
    return key.startswith("decision_") or key in (CURRENT, "decided_by", "decided_at")


def record(sagemaker: SageMakerClient, package: Mapping[str, Any], decision: Decision) -> RecordedDecision:
    """Write a decision into a version, and settle it with those that were made at the same time.

    Args:
        sagemaker: The client.
        package: The version as the approver saw it.
        decision: The approver's decision.

    Raises:
        UserError: The version's metadata has no room for it, or others kept overwriting it.
    """
    arn, known = package["ModelPackageArn"], {d.identifier for d in decisions_of(package)}
    now, standing = package, decision
    for _ in range(_ATTEMPTS):
        _write(sagemaker, now, decision, standing)
        now = sagemaker.describe_model_package(ModelPackageName=arn)
        present = decisions_of(now)
        simultaneous = [d for d in present if d.identifier not in known | {decision.identifier}]
        if decision not in present:  # Another write, by a service that replaces entries, took ours away.
            continue
        standing = _standing(decision, simultaneous, now)
        if now.get("ModelApprovalStatus") == standing.status and _named(now) == standing.identifier:
            return RecordedDecision(decision, standing, tuple(simultaneous))
    raise UserError(f"{arn} is being decided upon by others; look with `medloop models show`, then try again")


def _standing(decision: Decision, simultaneous: list[Decision], package: Mapping[str, Any]) -> Decision:
    """The decision in force.

    A decision that a later one knew and replaced is not. Of the others a rejection precedes an approval; of equals, the
    one that the version itself names.
    """
    replaced = {d.after for d in (decision, *simultaneous)}
    candidates = [d for d in (decision, *simultaneous) if d.identifier not in replaced]
    candidates = [d for d in candidates if d.status == "Rejected"] or candidates
    named = _named(package)
    return next((d for d in candidates if d.identifier == named), max(candidates, key=lambda d: d.identifier))


def _named(package: Mapping[str, Any]) -> str:
    """The identifier of the decision that the version names as in force; "" if none."""
    return str((package.get("CustomerMetadataProperties") or {}).get(CURRENT, ""))


def _write(sagemaker: SageMakerClient, package: Mapping[str, Any], decision: Decision, standing: Decision) -> None:
    """One UpdateModelPackage: status, description and entries change together or not at all."""
    metadata = dict(package.get("CustomerMetadataProperties") or {})
    metadata |= _entries(decision)
    metadata |= {
        CURRENT: standing.identifier,
        "decided_by": encode(standing.who),
        "decided_at": f"{standing.at:%Y-%m-%dT%H:%M:%SZ}",
    }
    if len(metadata) > MAX_ENTRIES:
        raise UserError(
            f"the record would take {len(metadata)} entries of metadata and the service keeps {MAX_ENTRIES}: "
            "give a shorter reason, or register the model again"
        )
    sagemaker.update_model_package(
        ModelPackageArn=package["ModelPackageArn"],
        ModelApprovalStatus=standing.status,
        ApprovalDescription=standing.reason,
        # All entries, not the new ones alone: should the service replace the map, nothing is lost.
        CustomerMetadataProperties=metadata,
    )


def _entries(decision: Decision) -> dict[str, str]:
    key = f"decision_{decision.identifier}"
    page = {f"{key}_page": decision.page} if decision.page else {}
    texts = _pieces(f"{key}_reason", decision.reason) | _pieces(f"{key}_definition", decision.definition)
    return {key: _value(decision)} | page | texts


def _pieces(name: str, text: str) -> dict[str, str]:
    """A text as entries `NAME_1`, `NAME_2`; none for an empty one."""
    return {f"{name}_{n}": piece for n, piece in enumerate(pieces(text), start=1)} if text else {}


def _value(decision: Decision) -> str:
    after = f" after {decision.after}" if decision.after else ""
    return f"{decision.status}{after} by {encode(decision.who)}"


def _text(metadata: Mapping[str, str], name: str) -> str:
    parts: list[str] = []
    while (part := metadata.get(f"{name}_{len(parts) + 1}")) is not None:
        parts.append(decode(part))
    return "".join(parts)
