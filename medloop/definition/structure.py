"""Rules between a definition's steps, for `validate` before an upload and for the local backend, as the service.

Each function returns the violations; callers write the messages.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from medloop.definition.read import CONDITION, Definition, Step, references

MAX_NAME = 64
_NAME = re.compile(r"[A-Za-z0-9_-]+")


def is_name(name: str) -> bool:
    """True if the service accepts the characters of a step's name (botocore's shape StepName)."""
    return _NAME.fullmatch(name) is not None


def repeated_names(definition: Definition) -> dict[str, int]:
    """Return the names that several steps have, in branches too, with the number of steps."""
    return {name: count for name, count in Counter(step.name for step in definition.steps).items() if count > 1}


def outer_condition(step: Step) -> str | None:
    """Return the outer condition's name of a nested condition, which SageMaker refuses; None for other steps."""
    return step.branch[0] if step.type == CONDITION and step.branch is not None else None


def absent_steps(definition: Definition, step: Step) -> list[str]:
    """List the names of missing steps that this step waits for or refers to, sorted."""
    return sorted(step.needs - {other.name for other in definition.steps})


def undeclared_parameters(definition: Definition, step: Step) -> Iterator[str]:
    """Yield the names of undeclared parameters that the step refers to."""
    declared = {parameter.name for parameter in definition.parameters}
    for reference in references(step.arguments):
        kind, _, name = reference.partition(".")
        if kind == "Parameters" and name not in declared:
            yield name
