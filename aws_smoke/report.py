"""The smoke test as text and JSON: what would be created and deleted, and what came out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.console import Console

from aws_smoke.check import Check, Result, Status
from aws_smoke.checks import STAYS
from aws_smoke.lab import PREFIX, TAG
from medloop.commands.output import print_line, print_table
from medloop.definition.cost import load_prices
from pipelines.variants import variants

STATUSES: tuple[Status, ...] = ("passed", "failed", "not tried")
_SHOWN = 10
_MAX_DETAIL = 500
"""Characters of a reason on the terminal; the JSON has all."""


class Report(BaseModel):
    """The JSON document that `--json FILE` writes."""

    model_config = ConfigDict(extra="forbid")

    run: str
    account: str
    region: str
    results: list[Result]
    interrupted: int | str | None = None
    """The exit code of an interruption."""

    @property
    def has_failures(self) -> bool:
        """True if a case failed or a resource is left."""
        return any(result.status == "failed" for result in self.results)

    def write(self, path: Path) -> None:
        """Write the document.

        Raises:
            OSError: The file can't be written.
        """
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def print_plan(out: Console, checks: Sequence[Check]) -> None:
    """Print what the checks would create and delete, their requests, and the price."""
    print_line(
        out, f"make aws-smoke: everything is named {PREFIX}RUN-..., or contains smoke-RUN, and has the tag {TAG}=RUN"
    )
    print_line(out, f"if it takes tags. pipelines: {sum(1 for _ in variants())} definitions, one at a time.")
    for check in checks:
        print_line(out, "")
        print_line(
            out,
            f"{check.name} ({_price(check)}{', confirmed by itself' if check.consent else ''}): {check.proves}",
            "bold",
        )
        if check.unknown:
            print_line(out, f"  resolves        {'; '.join(check.unknown)}")
        print_line(out, f"  creates, deletes  {', '.join(check.makes) or 'nothing'}")
        if check.images:
            print_line(out, f"  needs images of {', '.join(check.images)}")
        for service, operations in _by_service(check.calls):
            print_line(out, f"  {service}: {', '.join(operations)}")
    print_line(out, "")
    print_line(out, f"Cleanup lists and deletes by RUN. Kept: {'; '.join(STAYS)}.")
    usd, most = sum(check.usd for check in checks), sum(check.most_usd for check in checks)
    prices = load_prices()
    print_line(
        out,
        f"Estimated {usd:.2f} USD, at most {most:.2f} USD (list prices of {prices.region}, {prices.as_of}; storage and",
    )
    print_line(out, "requests cost less than a cent).")


def _price(check: Check) -> str:
    return f"about {check.usd:.3f} USD, at most {check.most_usd:.2f}" if check.most_usd else "free"


def _by_service(calls: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    for service in dict.fromkeys(call.partition(":")[0] for call in calls):
        yield service, [call.partition(":")[2] for call in calls if call.startswith(f"{service}:")]


def print_result(err: Console, result: Result) -> None:
    """Print a result as progress."""
    style = {"passed": "green", "failed": "red", "not tried": "yellow"}[result.status]
    print_line(err, f"{result.status}: {result.check}: {result.case}: {_cut(result.detail)}", style)


def print_report(out: Console, report: Report) -> None:
    """Print the table, then every failure, and what was learned about the unknowns."""
    names = list(dict.fromkeys(result.check for result in report.results))
    rows = [(name, *(_count(report, name, status) or "" for status in STATUSES)) for name in names]
    print_table(out, ("check", *STATUSES), rows)
    for status in ("failed", "not tried"):
        lines = _lines(report, status)
        if lines:
            print_line(out, "")
            print_line(out, f"{status.capitalize()}:")
        for line in lines:
            print_line(out, f"  {line}")
    learned = [result for result in report.results if result.learned]
    if learned:
        print_line(out, "")
        print_line(out, "Learned:")
    for result in learned:
        print_line(out, f"  {result.check}: {result.case}: {result.detail}")


def _count(report: Report, check: str, status: Status) -> int:
    return sum(result.check == check and result.status == status for result in report.results)


def _lines(report: Report, status: str) -> list[str]:
    """List results, those that share check and reason in one line."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for result in report.results:
        if result.status == status:
            grouped.setdefault((result.check, result.detail), []).append(result.case)
    return [f"{check}: {_shorten(cases)}: {_cut(detail)}" for (check, detail), cases in grouped.items()]


def _cut(detail: str) -> str:
    return detail if len(detail) <= _MAX_DETAIL else f"{detail[:_MAX_DETAIL]} ..."


def _shorten(cases: list[str]) -> str:
    more = f" and {len(cases) - _SHOWN} more" if len(cases) > _SHOWN else ""
    return ", ".join(cases[:_SHOWN]) + more
