"""Every finding of cdk-nag's AwsSolutions and HIPAA Security is fixed or answered, and every answer answers one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.infra.findings import Answer, Finding, lies_at, of_nag, of_stars, problems, read_answers
from tests.infra.policies import Account

FOUND = Finding("Rule", "Resource::*", "Execution/Jobs/Training")
GOOD = Answer(rule="Rule", about=["Resource::*"], where=["Execution/Jobs/*"], reason="because of a good reason")


def test_every_finding_is_answered_and_no_answer_is_stale(assembly: Path, account: Account) -> None:
    """The table and the stack agree; what is named here is to be fixed, or answered in infra/findings.yaml."""
    found = [*of_nag(assembly), *of_stars(account)]
    assert len(found) > 50, "the tools found nothing to speak of: did they run?"
    assert problems(found, read_answers()) == []


def test_both_packs_ran(assembly: Path) -> None:
    """AwsSolutions and HIPAA Security."""
    report = json.loads((assembly / "validation-report.json").read_text(encoding="utf-8"))
    assert {pack["pluginName"] for pack in report["pluginReports"]} == {"AwsSolutions", "HIPAA.Security"}


@pytest.mark.parametrize(
    ("findings", "answers", "count"),
    [
        ([FOUND], [GOOD], 0),
        ([FOUND], [], 1),
        ([FOUND], [GOOD, GOOD], 1),
        ([], [GOOD], 2),
        ([FOUND, Finding("Rule", "Resource::a", FOUND.where)], [GOOD], 1),
        ([FOUND, Finding("Rule", FOUND.about, "Builds/Role")], [GOOD], 1),
        ([FOUND, Finding("Other", FOUND.about, FOUND.where)], [GOOD], 1),
        ([FOUND], [GOOD.model_copy(update={"where": ["Execution/Jobs/*", "Builds/Role"]})], 1),
        ([FOUND], [GOOD.model_copy(update={"about": ["Resource::*", "Resource::a"]})], 1),
    ],
)
def test_new_findings_and_stale_answers_are_problems(
    findings: list[Finding], answers: list[Answer], count: int
) -> None:
    """The comparison itself."""
    assert len(problems(findings, answers)) == count


def test_a_star_is_one_part_of_a_path() -> None:
    """So that an answer doesn't cover more than it means."""
    assert lies_at("A/*/C", "A/B/C")
    assert not lies_at("A/*", "A/B/C")
    assert not lies_at("A/*/C", "A/B/D")
