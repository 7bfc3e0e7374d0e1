"""A version's registry section, the part of its page that no job could write: decisions, execution, cost.

Every text is escaped; the markup is the report's own (`section`, `table.facts`), so that its style sheet draws it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from medloop.commands.execution.billing import bill_step
from medloop.commands.execution.trials import read_tuning
from medloop.commands.execution_status import ExecutionStep, describe_job, read_execution
from medloop.commands.output import duration, shown
from medloop.commands.pages import templates
from medloop.commands.registry.approval_checks import started_by
from medloop.commands.registry.card import card_rows
from medloop.commands.registry.decisions import decisions_of
from medloop.commands.registry.evidence_files import code_of
from medloop.commands.registry.versions import name_of
from medloop.definition.cost import load_prices
from medloop.documents.card import REQUIRED_CARD_FIELDS, read_card, required_fields_of
from medloop.documents.metadata import decoded
from medloop.errors import UserError

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

    from medloop.cloud.target import Target

MARKER = "<!-- medloop:registry -->"
"""The report's marker for this part; without a marker, the part is at the end."""
Rows = list[tuple[str, str]]
_PROVENANCE = {
    "git_commit": "Git commit",
    "data": "data",
    "data_version": "data version",
    "data_digest": "data digest",
    "code_digest": "code digest",
}


def registry_section(target: Target, package: Mapping[str, Any], digest: str) -> str:
    """Collect the part, and draw it.

    Args:
        target: The version's target.
        package: DescribeModelPackage's response.
        digest: The report's digest.

    Returns:
        HTML.
    """
    metadata = decoded(package.get("CustomerMetadataProperties"))
    execution, jobs = _execution(target, metadata.get("execution", ""))
    prices = load_prices()
    prices_note = f"List prices of {prices.region}, {prices.as_of}, for the time that each job took."
    if target.name == "local":
        prices_note = "These jobs ran as processes on one computer and cost nothing; instance types have no effect."
    environment = templates(
        "medloop.commands.registry", moment=_moment, page_then=lambda then: _page_then(then, digest)
    )
    return environment.get_template("registry.html.jinja").render(
        model=name_of(package),
        at=_moment(datetime.now(UTC)),
        version=[*_version(package, metadata), ("report's digest", digest)],
        decisions=decisions_of(package),
        execution=execution,
        jobs=jobs,
        prices=prices_note,
        card=_card(package),
    )


def insert_section(page: str, html: str) -> str:
    """The report with the part put in: at the marker, or else at the end of what it shows."""
    for anchor, replacement in ((MARKER, html), ("</main>", f"{html}</main>"), ("</body>", f"{html}</body>")):
        before, separator, after = page.rpartition(anchor) if anchor != MARKER else page.partition(anchor)
        if separator:
            return f"{before}{replacement}{after}"
    return page + html


def _page_then(digest: str, now: str) -> str:
    if not digest:
        return "No page could be read then."
    return "The page was this one." if digest == now else f"The page was another one: {digest}."


def _version(package: Mapping[str, Any], metadata: Mapping[str, str]) -> Rows:
    rows = [
        ("version", name_of(package)),
        ("ARN", str(package["ModelPackageArn"])),
        ("status", str(package.get("ModelApprovalStatus"))),
        ("registered", _when(package.get("CreationTime"))),
        ("endpoint", metadata.get("endpoint", "none named")),
    ]
    if not decisions_of(package) and package.get("ApprovalDescription"):
        rows.append(("reason", str(package["ApprovalDescription"])))
    return rows + [(title, metadata[name]) for name, title in _PROVENANCE.items() if name in metadata]


def _execution(target: Target, arn: str) -> tuple[Rows, list[tuple[str, ...]]]:
    """Facts of the execution and its jobs; where it can't be read, why not."""
    from botocore.exceptions import ClientError

    if not arn.startswith("arn:"):
        return [("execution", "none is recorded")], []
    sagemaker = target.boto.client("sagemaker")
    try:
        person, execution = started_by(sagemaker, arn), read_execution(sagemaker, arn)
        jobs = [job for step in execution.steps for job in _job(sagemaker, target.name, step)]
    except (ClientError, UserError) as error:
        reason = code_of(error) if isinstance(error, ClientError) else str(error)
        return [("execution", arn), ("not readable", reason)], []
    facts = [
        ("execution", arn),
        ("started by", person.shown if person else "not recorded"),
        ("started", _when(execution.started)),
        ("ended", _when(execution.ended)),
        ("took", duration(execution.seconds)),
        ("status", execution.status),
    ]
    return facts, jobs


def _job(sagemaker: SageMakerClient, target_name: str, step: ExecutionStep) -> list[tuple[str, ...]]:
    if step.job is None:
        return []
    tuning = read_tuning(sagemaker, step.name, step.job) if step.job.type.trials else None
    spent = bill_step(sagemaker, step, describe_job(sagemaker, step.job), tuning, load_prices())
    if spent is None:
        return []
    cost = "not known" if spent.usd is None else f"{spent.usd:,.2f} USD"
    cost = "nothing" if target_name == "local" else cost
    return [(spent.step, spent.machines, duration(step.seconds), cost, spent.remark)]


def _card(package: Mapping[str, Any]) -> Rows:
    """The required fields, also the missing ones; then the other fields that people filled in."""
    card = read_card(package)
    if card is None:
        return [("model card", "the version has none")]
    stated = required_fields_of(card["content"])
    rows = [(name.replace("_", " "), stated.get(name, "not stated")) for name in REQUIRED_CARD_FIELDS]
    known = {name.replace("_", " ") for name in REQUIRED_CARD_FIELDS} | {"intended uses"}
    people = ("use", "business", "also")
    rest = card_rows(card["content"])
    return [*rows, *((name, shown(value)) for section, name, value in rest if section in people and name not in known)]


def _moment(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _when(when: datetime | None) -> str:
    return "not yet" if when is None else _moment(when)
