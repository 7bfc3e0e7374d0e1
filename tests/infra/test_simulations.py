"""Who may do what: simulations.yaml over the synthesised policies, and what every role is held to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra.policies import Account
from tests.infra.template import ACCOUNT, REGION

TABLE = yaml.safe_load(Path(__file__).with_name("simulations.yaml").read_text(encoding="utf-8"))
ROLES = {
    "pipeline": "Execution/Pipeline/Role",
    "processing": "Execution/Jobs/Processing",
    "training": "Execution/Jobs/Training",
    "evaluation": "Execution/Jobs/Evaluation",
    "inference": "Execution/Jobs/Inference",
    "champion": "Execution/Champion/Function/Role",
    "approver": "Execution/Approver/Role",
    "builder": "Builds/Role",
    "mlflow": "Tracking/Role",
    "guard": "Scheduling/Guard/Role",
    "guard-function": "Scheduling/Look/Role",
    "scheduler": "Scheduling/SchedulerRole",
    "deployer": "Deployment/Approval/Role",
}
ROWS = [
    pytest.param(who, verb, row, id=f"{who} {verb} {row['ask']} {row.get('when', '')}".strip())
    for who, rules in TABLE.items()
    for verb, rows in rules.items()
    for row in rows
]


def arn(account: Account, text: str) -> str:
    """The ARN that a row's short form means."""
    bucket, slash, key = text.partition("/")
    if bucket in ("data", "artefacts"):
        return account.arn(account.find("AWS::S3::Bucket", f"Storage/{bucket.title()}")) + slash + key
    kind, _, name = text.partition(":")
    if kind == "key":
        return account.arn(account.find("AWS::KMS::Key", f"Keys/{name.title()}"))
    if kind == "role":
        return account.role(ROLES[name])
    if kind == "repository":
        return account.arn(account.find("AWS::ECR::Repository", f"Images/{name.title()}"))
    if text == "*" or kind == "arn":
        return text
    if kind in ("iam", "s3"):
        return f"arn:aws:{text}" if kind == "s3" else f"arn:aws:iam::{ACCOUNT}:{name.lstrip(':')}"
    return f"arn:aws:{kind}:{REGION}:{ACCOUNT}:{name}"


def context(account: Account, when: dict[str, Any]) -> dict[str, Any]:
    """A row's condition keys, with the stack's own values filled in."""
    vpc = {name: account.properties(name) for name in account.of("AWS::EC2::Subnet")}
    own = {
        "$subnets": list(vpc),
        "$group": [f"{account.find('AWS::EC2::SecurityGroup', 'Network/Jobs')}.GroupId"],
        "$champion": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:medloop-champion",
    }
    return {key: own.get(value, value) if isinstance(value, str) else value for key, value in when.items()}


@pytest.mark.parametrize(("who", "verb", "row"), ROWS)
def test_simulation(account: Account, who: str, verb: str, row: dict[str, Any]) -> None:
    """A row of the table."""
    action, _, what = row["ask"].partition(" ")
    when = context(account, row.get("when", {}))
    decision = account.simulate(account.role(ROLES[who]), action, arn(account, what), when)
    assert (decision == "allowed") == (verb == "may"), f"{decision}; {row.get('why', '')}"


def test_every_role_of_the_table_is_tried_both_ways() -> None:
    """What a role may, and what it may not."""
    assert set(TABLE) == set(ROLES)
    assert all({"may", "may not"} == set(rules) for rules in TABLE.values())
    assert len(ROWS) >= 40
