"""A pipeline definition drawn as plain text, and the edges of any drawing of it."""

from __future__ import annotations

from medloop.definition.read import Definition, Step
from medloop.definition.step_types import type_of


def draw_text(definition: Definition) -> str:
    """Draw one line a step, in running order: its type, the steps it waits for, a condition's branches below it.

    Raises:
        SettingError: Steps wait for each other.
    """
    top = [step for step in definition.in_order() if step.branch is None]
    width = max((len(step.name) for step in definition.steps), default=0)
    lines = []
    for step in top:
        lines.append(_line(step, width, ""))
        for outcome in ("yes", "no"):
            branch = [branched for branched in definition.in_order() if branched.branch == (step.name, outcome)]
            lines += [_line(branched, width, f"  {outcome + ' ->':<7}") for branched in branch]
    return "\n".join(lines)


def _line(step: Step, width: int, lead: str) -> str:
    conditions = _describe(step)
    waits = ", ".join(sorted(step.needs)) if step.branch is None and not conditions else ""
    after = f"  (after {waits})" if waits else ""
    detail = conditions or str(step.document.get("Description") or "")
    return f"{lead}{step.name:<{width}}  {step.type:<13}  {detail}{after}".rstrip()


def _describe(step: Step) -> str:
    describe = type_of(step).describe
    return describe(step) if describe else ""


def direct_needs(step: Step, definition: Definition) -> list[str]:
    """Return the needs that no other need already waits for; a branch's step is connected to its condition only."""
    if step.branch is not None and step.needs:
        siblings = {sibling.name for sibling in definition.steps if sibling.branch == step.branch}
        return sorted(step.needs & siblings) or [step.branch[0]]
    inherited = {need for direct in step.needs for need in _all_needs(direct, definition)}
    return sorted(step.needs - inherited)


def _all_needs(name: str, definition: Definition) -> set[str]:
    needs: set[str] = set()
    waiting = [name]
    while waiting:
        new = definition.step(waiting.pop()).needs - needs
        needs |= new
        waiting += new
    return needs
