"""Condition steps: the comparisons, their text, and their problems."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from medloop.definition.read import Step, describe_value, mappings

_COMPARISONS = {
    "Equals": "=",
    "GreaterThan": ">",
    "GreaterThanOrEqualTo": ">=",
    "LessThan": "<",
    "LessThanOrEqualTo": "<=",
}
"""Conditions on two values, with their signs."""
_COMPOUND = ("In", "Not", "Or")


def condition_problems(step: Step) -> Iterator[str]:
    """Yield the problems of a Condition step's conditions."""
    conditions = mappings(step.arguments.get("Conditions"))
    if not conditions:
        yield "has no conditions"
    for condition in conditions:
        if condition.get("Type") not in (*_COMPARISONS, *_COMPOUND):
            yield f"unknown condition {condition.get('Type')}"


def describe_conditions(step: Step) -> str:
    """Return a Condition step's conditions as text, such as `score.value >= MinScore and ...`."""
    conditions = mappings(step.arguments.get("Conditions"))
    return " and ".join(_describe(condition) for condition in conditions)


def _describe(condition: dict[str, Any]) -> str:
    kind = str(condition.get("Type"))
    if kind == "Or":
        return "(" + " or ".join(_describe(inner) for inner in mappings(condition.get("Conditions"))) + ")"
    if kind == "Not":
        return f"not ({_describe(condition.get('Condition') or {})})"
    if kind == "In":
        values = ", ".join(describe_value(value) for value in condition.get("Values") or [])
        return f"{describe_value(condition.get('QueryValue'))} in ({values})"
    sign = _COMPARISONS.get(kind, kind)
    return f"{describe_value(condition.get('LeftValue'))} {sign} {describe_value(condition.get('RightValue'))}"
