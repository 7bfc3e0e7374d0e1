"""What pydantic found wrong, for a message of one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError


@dataclass(frozen=True)
class FieldProblem:
    """The first problem of a validation.

    Args:
        field: The field's dotted path; empty for the whole.
        kind: pydantic's name of the problem, such as `missing` or `extra_forbidden`.
        reason: What is wrong with the value.
        value: The value as it was given.
    """

    field: str
    kind: str
    reason: str
    value: Any


def first_problem(error: ValidationError) -> FieldProblem:
    """The first of an error's problems."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    field = field if field.isprintable() else ascii(field)  # A key of a hostile file must not steer the terminal.
    return FieldProblem(field, first["type"], first["msg"].removeprefix("Value error, "), first["input"])
