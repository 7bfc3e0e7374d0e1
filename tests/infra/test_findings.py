"""Every finding of cdk-nag's AwsSolutions and HIPAA Security is fixed or answered, and every answer answers one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.infra.findings import Finding, Resolution, lies_at, of_nag, of_stars, problems, read_resolutions
from tests.infra.policies import Account

FINDING = Finding("Rule", "Resource::*", "Execution/Jobs/Training")
GOOD = Resolution(rule="Rule", about=["Resource::*"], where=["Execution/Jobs/*"], reason="because of a good reason")


def test_every_finding_is_answered_and_no_answer_is_stale(
    delivered: Path, registry: Account, production: Account
) -> None:
    """The table and the stacks agree; what is named here is to be fixed, or answered in infra/findings.yaml."""
    findings = [*of_nag(delivered), *of_stars(registry), *of_stars(production)]
    assert len(findings) > 50, "the tools found nothing to speak of: did they run?"
    assert problems(findings, read_resolutions()) == []


def test_both_packs_ran(delivered: Path) -> None:
    """AwsSolutions and HIPAA Security."""
    report = json.loads((delivered / "validation-report.json").read_text(encoding="utf-8"))
    assert {pack["pluginName"] for pack in report["pluginReports"]} == {"AwsSolutions", "HIPAA.Security"}


@pytest.mark.parametrize(
    ("findings", "resolutions", "count"),
    [
        ([FINDING], [GOOD], 0),
        ([FINDING], [], 1),
        ([FINDING], [GOOD, GOOD], 1),
        ([], [GOOD], 2),
        ([FINDING, Finding("Rule", "Resource::a", FINDING.where)], [GOOD], 1),
        ([FINDING, Finding("Rule", FINDING.about, "Builds/Role")], [GOOD], 1),
        ([FINDING, Finding("Other", FINDING.about, FINDING.where)], [GOOD], 1),
        ([FINDING], [GOOD.model_copy(update={"where": ["Execution/Jobs/*", "Builds/Role"]})], 1),
        ([FINDING], [GOOD.model_copy(update={"about": ["Resource::*", "Resource::a"]})], 1),
    ],
)
def test_new_findings_and_stale_answers_are_problems(
    findings: list[Finding], resolutions: list[Resolution], count: int
) -> None:
    """The comparison itself."""
    assert len(problems(findings, resolutions)) == count


def test_a_star_is_one_part_of_a_path() -> None:
    """So that an answer doesn't cover more than it means."""
    assert lies_at("A/*/C", "A/B/C")
    assert not lies_at("A/*", "A/B/C")
    assert not lies_at("A/*/C", "A/B/D")
