"""A pipeline definition as a picture: plain text for terminals, Mermaid for pages that render it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medloop.definition.read import Definition, Step, mappings

_SIGNS = {
    "Equals": "=",
    "GreaterThan": ">",
    "GreaterThanOrEqualTo": ">=",
    "LessThan": "<",
    "LessThanOrEqualTo": "<=",
}


def draw_text(definition: Definition) -> str:
    """One line a step, in running order: what it is, what it waits for, a condition's branches below it.

    Raises:
        SettingError: Steps wait for each other.
    """
    top = [step for step in definition.in_order() if step.branch is None]
    width = max((len(step.name) for step in definition.steps), default=0)
    lines = []
    for step in top:
        lines.append(_line(step, width, ""))
        for outcome in ("yes", "no"):
            inner = [other for other in definition.in_order() if other.branch == (step.name, outcome)]
            lines += [_line(other, width, f"  {outcome + ' ->':<7}") for other in inner]
    return "\n".join(lines)


def draw_mermaid(definition: Definition) -> str:
    """A Mermaid flowchart, left to right. Edges that follow from others are left out.

    Raises:
        SettingError: Steps wait for each other.
    """
    lines = ["flowchart LR"]
    for step in definition.in_order():
        shape = f'{{"{_title(step)}"}}' if step.type == "Condition" else f'["{_title(step)}"]'
        lines.append(f"    {step.name}{shape}")
    for step in definition.in_order():
        for need in direct_needs(step, definition):
            outcome = f"|{step.branch[1]}|" if step.branch is not None and step.branch[0] == need else ""
            lines.append(f"    {need} -->{outcome} {step.name}")
    return "\n".join(lines)


def describe_conditions(step: Step) -> str:
    """A condition step's conditions in words, as `score.value >= MinScore and ...`."""
    conditions = mappings(step.arguments.get("Conditions"))
    return " and ".join(_condition(condition) for condition in conditions)


def describe_value(value: Any) -> str:
    """An expression in words: a parameter's name, a JSON path, a property's last part."""
    if not isinstance(value, dict):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if "Std:JsonGet" in value:
        return str(value["Std:JsonGet"].get("Path"))
    if "Std:Join" in value:
        join = value["Std:Join"]
        return str(join.get("On", "")).join(describe_value(part) for part in join.get("Values") or [])
    return f"{{{value.get('Get')}}}" if not _is_parameter(value) else str(value["Get"]).removeprefix("Parameters.")


def value_in_words(value: Any, values: Mapping[str, str]) -> str:
    """A scalar in words, parameters replaced by their values."""
    words = describe_value(value)
    return values.get(words, words) if isinstance(value, dict) else words


def _line(step: Step, width: int, lead: str) -> str:
    waits = ", ".join(sorted(step.needs)) if step.branch is None and step.type != "Condition" else ""
    detail = describe_conditions(step) if step.type == "Condition" else str(step.document.get("Description") or "")
    after = f"  (after {waits})" if waits else ""
    return f"{lead}{step.name:<{width}}  {step.type:<13}  {detail}{after}".rstrip()


def _title(step: Step) -> str:
    detail = describe_conditions(step) if step.type == "Condition" else step.type
    return f"{step.name}<br/><small>{detail.replace('>=', '≥').replace('<=', '≤')}</small>"


def _condition(condition: dict[str, Any]) -> str:
    kind = str(condition.get("Type"))
    if kind == "Or":
        return "(" + " or ".join(_condition(inner) for inner in mappings(condition.get("Conditions"))) + ")"
    if kind == "Not":
        return f"not ({_condition(condition.get('Condition') or {})})"
    if kind == "In":
        values = ", ".join(describe_value(value) for value in condition.get("Values") or [])
        return f"{describe_value(condition.get('QueryValue'))} in ({values})"
    sign = _SIGNS.get(kind, kind)
    return f"{describe_value(condition.get('LeftValue'))} {sign} {describe_value(condition.get('RightValue'))}"


def _is_parameter(value: dict[str, Any]) -> bool:
    return str(value.get("Get", "")).startswith("Parameters.")


def direct_needs(step: Step, definition: Definition) -> list[str]:
    """Names of the needs that no other need already waits for; a branch's step hangs from its condition alone."""
    if step.branch is not None and step.needs:
        inner = {other.name for other in definition.steps if other.branch == step.branch}
        return sorted(step.needs & inner) or [step.branch[0]]
    implied = {need for other in step.needs for need in _all_needs(other, definition)}
    return sorted(step.needs - implied)


def _all_needs(name: str, definition: Definition) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        needs = definition.step(waiting.pop()).needs - found
        found |= needs
        waiting += needs
    return found
