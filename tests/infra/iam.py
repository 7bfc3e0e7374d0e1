"""A small evaluator of IAM policies, after AWS's documented logic for requests within one account and across two.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html: an explicit deny in any
policy wins; else an allow in the caller's policies or in the resource's policy is needed; a KMS key's policy must allow
too, if only by delegating to the account's IAM policies. To a caller of another account both must allow
(reference_policies_evaluation-logic-cross-account.html). What it doesn't know is an error, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

_VARIABLE = re.compile(r"\$\{(?P<key>[^},]+)(?:, '(?P<default>[^']*)')?\}")
Statement = Mapping[str, Any]
Decision = Literal["allowed", "denied", "explicitly denied"]
_KNOWN = {"Sid", "Effect", "Principal", "Action", "NotAction", "Resource", "NotResource", "Condition"}


@dataclass(frozen=True)
class Request:
    """A request to a service.

    Args:
        principal: Who asks: a role's ARN, or a service such as `sagemaker.amazonaws.com`.
        action: `service:Operation`.
        resource: The requested ARN; `*` if the operation has none.
        context: Condition keys with one value or several; keys are compared without case.
    """

    principal: str
    action: str
    resource: str
    context: Mapping[str, str | Sequence[str]] = field(default_factory=dict)


def decide(
    request: Request,
    identity: Iterable[Statement],
    resource: Iterable[Statement] = (),
    *,
    resource_must_allow: bool = False,
    across_accounts: bool = False,
    boundaries: Sequence[Iterable[Statement]] = (),
) -> Decision:
    """What the service answers.

    Args:
        request: The request.
        identity: Statements of the caller's policies.
        resource: Statements of the resource's policy.
        resource_must_allow: Whether the resource's policy must allow too, as a KMS key's must.
        across_accounts: The caller is of another account than the resource: both policies must allow.
        boundaries: Policies that must each allow, such as a VPC endpoint's.
    """
    identity, resource, limits = list(identity), list(resource), [list(limit) for limit in boundaries]
    applicable = [s for s in identity if _applies(s, request)]
    elsewhere = [s for s in chain(resource, *limits) if _names(s, request.principal) and _applies(s, request)]
    if any(s["Effect"] == "Deny" for s in [*applicable, *elsewhere]):
        return "explicitly denied"
    if not all(any(_grants(s, request) for s in limit) for limit in limits):
        return "denied"
    by_resource = [s for s in resource if _grants(s, request)]
    # A policy that names the account lets the account's own policies decide; by itself it gives nothing.
    direct = [s for s in by_resource if not _delegates(s)]
    if across_accounts:
        return "allowed" if applicable and by_resource else "denied"
    if resource_must_allow and not by_resource:
        return "denied"
    return "allowed" if applicable or direct else "denied"


def matches(pattern: str, value: str) -> bool:
    """IAM's wildcards: `*` is any text, slashes and colons too, `?` one character."""
    expression = "".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in pattern)
    return re.fullmatch(expression, value, re.DOTALL) is not None


def as_list(value: Any) -> list[Any]:
    """Policies write one value without its list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _grants(statement: Statement, request: Request) -> bool:
    return statement["Effect"] == "Allow" and _names(statement, request.principal) and _applies(statement, request)


def _applies(statement: Statement, request: Request) -> bool:
    if unknown := set(statement) - _KNOWN:
        raise ValueError(f"statement has unknown elements {sorted(unknown)}")
    return (
        _element(statement, "Action", request.action.lower(), lower=True)
        and _element(statement, "Resource", request.resource, lower=False)
        and _conditions(statement.get("Condition", {}), request.context)
    )


def _element(statement: Statement, name: str, value: str, *, lower: bool) -> bool:
    """Action or Resource, or its Not form; a trust policy has no Resource, and means the role itself."""
    if name not in statement and f"Not{name}" not in statement:
        return name == "Resource"
    negative = name not in statement
    patterns = as_list(statement[f"Not{name}" if negative else name])
    has_match = any(matches(pattern.lower() if lower else pattern, value) for pattern in patterns)
    return has_match != negative


def _names(statement: Statement, principal: str) -> bool:
    allowed = statement.get("Principal")
    if allowed is None:
        return False
    if allowed == "*":
        return True
    for kind, values in allowed.items():
        for value in as_list(values):
            if value in ("*", principal) or (kind == "AWS" and _is_account_of(value, principal)):
                return True
    return False


def _is_account_of(value: str, principal: str) -> bool:
    """`arn:aws:iam::ACCOUNT:root` stands for every principal of the account."""
    root = re.fullmatch(r"arn:aws:iam::(\d{12}):root", value)
    return root is not None and principal.startswith("arn:") and principal.split(":")[4] == root[1]


def _delegates(statement: Statement) -> bool:
    principal = statement.get("Principal")
    if not isinstance(principal, Mapping):
        return False
    return all(str(value).endswith(":root") for value in as_list(principal.get("AWS", [])) or ["no"])


def _conditions(conditions: Mapping[str, Mapping[str, Any]], context: Mapping[str, str | Sequence[str]]) -> bool:
    """All operators and all keys must hold."""
    lowered = {key.lower(): [str(item) for item in as_list(value)] for key, value in context.items()}
    return all(
        _condition(operator, lowered.get(key.lower()), [_substituted(str(each), lowered) for each in as_list(expected)])
        for operator, keys in conditions.items()
        for key, expected in keys.items()
    )


def _substituted(text: str, context: Mapping[str, Sequence[str]]) -> str:
    """A value with its policy variables: `${key}`, or `${key, 'default'}` for a key that may be absent.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
    """

    def value(match: re.Match[str]) -> str:
        present = context.get(match["key"].lower())
        if present is None and match["default"] is None:
            raise ValueError(f"variable {match[0]} has no value and no default")
        return str(match["default"]) if present is None else str(present[0])

    return _VARIABLE.sub(value, text)


def _condition(operator: str, present: list[str] | None, expected: list[str]) -> bool:
    if operator == "Null":
        return (present is None) == (expected == ["true"])
    quantifier, _, rest = operator.rpartition(":")
    optional, name = rest.endswith("IfExists"), rest.removesuffix("IfExists")
    if name not in _OPERATORS:
        raise ValueError(f"operator {operator} is unknown here")
    negative, test = _OPERATORS[name]
    if present is None:
        return optional or negative or quantifier == "ForAllValues"
    results = [
        (not any(test(value, each) for each in expected)) if negative else any(test(value, each) for each in expected)
        for value in present
    ]
    if quantifier == "ForAnyValue":
        return any(results)
    if quantifier == "ForAllValues" or len(results) == 1:
        return all(results)
    raise ValueError(f"{operator}: several values need ForAllValues or ForAnyValue")


def _same(value: str, expected: str) -> bool:
    return value == expected


def _same_truth(value: str, expected: str) -> bool:
    return value.lower() == expected.lower()


def _like(value: str, expected: str) -> bool:
    return matches(expected, value)


def _less(value: str, expected: str) -> bool:
    return float(value) < float(expected)


_OPERATORS = {
    "StringEquals": (False, _same),
    "StringNotEquals": (True, _same),
    "StringLike": (False, _like),
    "StringNotLike": (True, _like),
    "ArnEquals": (False, _like),
    "ArnLike": (False, _like),
    "ArnNotLike": (True, _like),
    "Bool": (False, _same_truth),
    "NumericLessThan": (False, _less),
}
