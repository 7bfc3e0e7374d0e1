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


class Answer(BaseModel):
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
    wanted, parts = pattern.split("/"), path.split("/")
    return len(wanted) == len(parts) and all(a in ("*", b) for a, b in zip(wanted, parts, strict=True))


def read_answers(path: Path = TABLE) -> list[Answer]:
    """The table."""
    return [Answer.model_validate(row) for row in yaml.safe_load(path.read_text(encoding="utf-8"))]


def problems(findings: Iterable[Finding], answers: Iterable[Answer]) -> list[str]:
    """Findings without an answer or with two, and parts of answers that answer nothing; empty where all is well."""
    findings, answers = list(findings), list(answers)
    found = []
    for finding in findings:
        count = sum(answer.covers(finding) for answer in answers)
        if count != 1:
            found.append(f"{finding.rule} [{finding.about}] at {finding.where}: {count} answers")
    for answer in answers:
        covered = [finding for finding in findings if answer.covers(finding)]
        met = {finding.about for finding in covered}
        found += [f"stale answer: {answer.rule} [{about}]" for about in answer.about if about not in met]
        found += [
            f"stale answer: {answer.rule} at {pattern}"
            for pattern in answer.where
            if not any(lies_at(pattern, finding.where) for finding in covered)
        ]
    return found


def of_nag(assembly: Path) -> list[Finding]:
    """What cdk-nag's packs found, from the assembly's report."""
    report = json.loads((assembly / "validation-report.json").read_text(encoding="utf-8"))
    found = []
    for pack in report["pluginReports"]:
        for violation in pack["violations"]:
            rule, about = _split(violation["ruleName"])
            found += [Finding(rule, about, _below(each["constructPath"])) for each in violation["violatingConstructs"]]
    return found


def of_stars(account: Account) -> list[Finding]:
    """Each action that a role is allowed on every resource."""
    found = set()
    for logical, statement in allowing(account):
        if account.resources[logical]["Type"] in _ROLE_POLICIES and "*" in as_list(statement.get("Resource", [])):
            where = _below(account.resources[logical]["Metadata"]["aws:cdk:path"])
            found |= {Finding("StarResource", action, where) for action in as_list(statement["Action"])}
    return sorted(found, key=lambda finding: (finding.where, finding.about))


_ROLE_POLICIES = {"AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::Role"}


def _split(name: str) -> tuple[str, str]:
    detailed = _DETAILED.fullmatch(name)
    return (detailed[1], _HASH.sub("", detailed[2])) if detailed else (name, "")


def _below(path: str) -> str:
    return path.partition("/")[2].removesuffix("/Resource")
