"""What must hold among a definition's steps: `validate` asks before an upload, the local backend as the service.

Each function says where a rule is broken; its callers choose the words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from medloop.definition.read import CONDITION, Definition, Step, references

MAX_NAME = 64
_NAME = re.compile(r"[A-Za-z0-9_-]+")


def is_name(name: str) -> bool:
    """Whether the service takes it as a step's name (botocore's shape StepName), its length apart."""
    return _NAME.fullmatch(name) is not None


def repeated_names(definition: Definition) -> dict[str, int]:
    """Names that several steps have, in branches too, and how many."""
    return {name: count for name, count in Counter(step.name for step in definition.steps).items() if count > 1}


def outer_condition(step: Step) -> str | None:
    """Of a condition that lies in another one's branch, which SageMaker doesn't know: the other one's name."""
    return step.branch[0] if step.type == CONDITION and step.branch is not None else None


def absent_steps(definition: Definition, step: Step) -> list[str]:
    """Names of steps that this one waits for or refers to, and that don't exist; sorted."""
    return sorted(step.needs - {other.name for other in definition.steps})


def undeclared_parameters(definition: Definition, step: Step) -> Iterator[str]:
    """Names of parameters that the step refers to and the definition doesn't declare."""
    declared = {parameter.name for parameter in definition.parameters}
    for reference in references(step.arguments):
        kind, _, name = reference.partition(".")
        if kind == "Parameters" and name not in declared:
            yield name
