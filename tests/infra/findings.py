"""What reviewers' tools find in the stack, and the table of answers (infra/findings.yaml)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from tests.infra.iam import as_list
from tests.infra.policies import Account, allowing

TABLE = Path(__file__).resolve().parents[2] / "infra" / "findings.yaml"
_HASH = re.compile(r"(?<=[A-Za-z])[0-9A-F]{8}(?=[.>])")
_DETAILED = re.compile(r"([^\[]+)\[(.*)\]", re.DOTALL)


@dataclass(frozen=True)
class Finding:
    """One finding.

    Args:
        rule: The rule's name.
        about: What exactly; empty where the rule doesn't say.
        where: The construct's path below the stack.
    """

    rule: str
    about: str
    where: str


class Resolution(BaseModel):
    """A row of the table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: str
    about: list[str] = Field(default=[""], min_length=1)
    where: list[str] = Field(min_length=1)
    reason: str = Field(min_length=20)

    def covers(self, finding: Finding) -> bool:
        """Whether it answers a finding."""
        return (
            self.rule == finding.rule
            and finding.about in self.about
            and any(lies_at(pattern, finding.where) for pattern in self.where)
        )


def lies_at(pattern: str, path: str) -> bool:
    """Whether a path is meant by a pattern, whose `*` is one part."""
    expected, parts = pattern.split("/"), path.split("/")
    return len(expected) == len(parts) and all(a in ("*", b) for a, b in zip(expected, parts, strict=True))


def read_resolutions(path: Path = TABLE) -> list[Resolution]:
    """The table."""
    return [Resolution.model_validate(row) for row in yaml.safe_load(path.read_text(encoding="utf-8"))]


def problems(findings: Iterable[Finding], resolutions: Iterable[Resolution]) -> list[str]:
    """Findings without an answer or with two, and parts of answers that answer nothing; empty where all is well."""
    findings, resolutions = list(findings), list(resolutions)
    problems = []
    for finding in findings:
        count = sum(resolution.covers(finding) for resolution in resolutions)
        if count != 1:
            problems.append(f"{finding.rule} [{finding.about}] at {finding.where}: {count} answers")
    for resolution in resolutions:
        covered = [finding for finding in findings if resolution.covers(finding)]
        met = {finding.about for finding in covered}
        problems += [f"stale answer: {resolution.rule} [{about}]" for about in resolution.about if about not in met]
        problems += [
            f"stale answer: {resolution.rule} at {pattern}"
            for pattern in resolution.where
            if not any(lies_at(pattern, finding.where) for finding in covered)
        ]
    return problems


def of_nag(assembly: Path) -> list[Finding]:
    """What cdk-nag's packs found, from the assembly's report."""
    report = json.loads((assembly / "validation-report.json").read_text(encoding="utf-8"))
    findings = []
    for pack in report["pluginReports"]:
        for violation in pack["violations"]:
            rule, about = _split(violation["ruleName"])
            findings += [
                Finding(rule, about, _below(each["constructPath"])) for each in violation["violatingConstructs"]
            ]
    return findings


def of_stars(account: Account) -> list[Finding]:
    """Each action that a role is allowed on every resource."""
    findings = set()
    for logical, statement in allowing(account):
        if account.resources[logical]["Type"] in _ROLE_POLICIES and "*" in as_list(statement.get("Resource", [])):
            where = _below(account.resources[logical]["Metadata"]["aws:cdk:path"])
            findings |= {Finding("StarResource", action, where) for action in as_list(statement["Action"])}
    return sorted(findings, key=lambda finding: (finding.where, finding.about))


_ROLE_POLICIES = {"AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::Role"}


def _split(name: str) -> tuple[str, str]:
    detailed = _DETAILED.fullmatch(name)
    return (detailed[1], _HASH.sub("", detailed[2])) if detailed else (name, "")


def _below(path: str) -> str:
    return path.partition("/")[2].removesuffix("/Resource")
