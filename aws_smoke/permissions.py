"""Check `roles`: infra/simulations.yaml over the deployed roles, by AWS's own policy simulator, without cost.

The simulator reads the policies of roles, not those of buckets and keys.
https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import yaml

from aws_smoke.check import Case, NotTriedError, UnexpectedError
from aws_smoke.lab import Lab
from infra.names import ROLE_PATHS, SIMULATIONS
from medloop.cloud.base_images import partition_of

Row = Mapping[str, Any]
_SHOWN = 3
_OF_STACK = {
    "key": ("kms", "key", "AWS::KMS::Key", "Keys"),
    "repository": ("ecr", "repository", "AWS::ECR::Repository", "Images"),
}
"""By a row's word: service, ARN's type, CloudFormation's type, folder of the CDK path."""


def role_cases(lab: Lab) -> Iterator[Case]:
    """Yield a case for each role of the table."""
    table = yaml.safe_load(SIMULATIONS.read_text(encoding="utf-8"))
    for role, rules in table.items():
        yield Case(role, partial(_simulate_role, lab, role, rules))


def _simulate_role(lab: Lab, role: str, rules: Mapping[str, list[Row]]) -> str:
    arn = _role_arn(lab, role)
    wrong, counts = [], dict.fromkeys(rules, 0)
    for verb, rows in rules.items():
        for row in (row for row in rows if _applies(lab, row)):
            counts[verb] += 1
            request = simulation_request(lab, arn, row)
            (result,) = lab.send("iam", "SimulatePrincipalPolicy", request)["EvaluationResults"]
            if (result["EvalDecision"] == "allowed") != (verb == "may"):
                when = f" when {row['when']}" if row.get("when") else ""
                wrong.append(f"{row['ask']}{when} is {result['EvalDecision']}")
    if wrong:
        rest = f" (and {len(wrong) - _SHOWN} more)" if len(wrong) > _SHOWN else ""
        raise UnexpectedError(f"{'; '.join(wrong[:_SHOWN])}{rest}; compare with infra/simulations.yaml")
    return f"{counts['may']} requests allowed, {counts['may not']} denied"


def _applies(lab: Lab, row: Row) -> bool:
    """True unless the row needs a part that this stack doesn't have (infra/settings.yaml)."""
    parts = {
        "vpc": lab.stack.vpc is not None,
        "server": ("AWS::IAM::Role", ROLE_PATHS["mlflow"]) in lab.stack.resources,
        "isolation": (isolates := lab.stack.outputs.get("IsolatedJobs") == "all"),
        "connections": not isolates,
    }
    return parts.get(row.get("needs", ""), True)


def simulation_request(lab: Lab, role_arn: str, row: Row) -> dict[str, Any]:
    """Return SimulatePrincipalPolicy's request for a row of the table."""
    action, _, resource = row["ask"].partition(" ")
    entries = [_context_entry(lab, name, value) for name, value in row.get("when", {}).items()]
    entries = [entry for entry in entries if entry["ContextKeyValues"]]
    return {
        "PolicySourceArn": role_arn,
        "ActionNames": [action],
        "ResourceArns": [resource_arn(lab, resource)],
        "ContextEntries": entries,
    }


def _context_entry(lab: Lab, name: str, value: Any) -> dict[str, Any]:
    vpc = lab.stack.vpc or {"Subnets": [], "SecurityGroupIds": []}
    from_stack = {
        "$subnets": vpc["Subnets"],
        "$group": vpc["SecurityGroupIds"],
        "$champion": lab.stack.outputs["ChampionFunctionArn"],
    }
    value = from_stack.get(value, value) if isinstance(value, str) else value
    if isinstance(value, list):
        return {"ContextKeyName": name, "ContextKeyType": "stringList", "ContextKeyValues": value}
    kind = "boolean" if str(value).lower() in ("true", "false") else "string"
    return {"ContextKeyName": name, "ContextKeyType": kind, "ContextKeyValues": [str(value)]}


def resource_arn(lab: Lab, text: str) -> str:
    """Return the ARN that a row's short form means in this account (the table's head explains the forms)."""
    partition = partition_of(lab.target.region)["id"]
    buckets = {"data": lab.stack.outputs["DataBucket"], "artefacts": lab.stack.outputs["MedloopBucket"]}
    bucket, slash, key = text.partition("/")
    if bucket in buckets:
        return f"arn:{partition}:s3:::{buckets[bucket]}{slash}{key}"
    kind, _, name = text.partition(":")
    if kind == "arn":
        return _regional(lab, text)
    if kind == "role":
        return _role_arn(lab, name)
    if kind in _OF_STACK:
        service, resource, type_name, folder = _OF_STACK[kind]
        return lab.arn(service, f"{resource}/{_physical(lab, type_name, f'{folder}/{name.title()}')}")
    without_region = {
        "*": "*",
        "iam": f"arn:{partition}:iam::{lab.target.account}:{name.lstrip(':')}",
        "s3": f"arn:{partition}:{text}",
    }
    return without_region.get(kind) or lab.arn(kind, name)


def _regional(lab: Lab, arn: str) -> str:
    """Return the ARN of an image of AWS's in this region, which may be in another account of AWS's."""
    account = lab.target.base_image("classify").partition(".")[0]
    return arn.replace("us-east-1:763104351884", f"{lab.target.region}:{account}")


def _role_arn(lab: Lab, role: str) -> str:
    """Return the ARN of a role of the stack.

    Raises:
        NotTriedError: The stack has no such role.
    """
    name = _physical(lab, "AWS::IAM::Role", ROLE_PATHS[role])
    return f"arn:{partition_of(lab.target.region)['id']}:iam::{lab.target.account}:role/{name}"


def _physical(lab: Lab, kind: str, path: str) -> str:
    try:
        return lab.stack.resources[kind, path]
    except KeyError:
        raise NotTriedError(f"the stack has no {kind} {path} (infra/settings.yaml)") from None
