"""Command-line arguments of a job: `--name value` pairs, checked by a pydantic model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from medloop.documents.reading import first_problem
from medloop.errors import SettingError

ModelT = TypeVar("ModelT", bound=BaseModel)


def read_pairs(argv: Sequence[str]) -> dict[str, str]:
    """Parse `--seed 3 --task=segmentation` into `{"seed": "3", "task": "segmentation"}`.

    Raises:
        SettingError: An argument is not a `--name`, has no value, or is a duplicate.
    """
    pairs: dict[str, str] = {}
    remaining = list(argv)
    while remaining:
        argument = remaining.pop(0)
        if not argument.startswith("--") or len(argument) == 2:
            raise SettingError(f"argument {argument!r} is not a name; write --name value")
        name, has_value, value = argument[2:].partition("=")
        if not has_value:
            if not remaining:
                raise SettingError(f"argument --{name} has no value; write --{name} value")
            value = remaining.pop(0)
        if name in pairs:
            raise SettingError(f"argument --{name} is a duplicate; remove one of them")
        pairs[name] = value
    return pairs


def with_prefix(values: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Select the values whose names begin with a prefix; the names lose it."""
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def parse_arguments(model: type[ModelT], arguments: dict[str, str]) -> ModelT:
    """Validate a job's arguments; lists and objects are JSON.

    Args:
        model: Names (underscores for hyphens) and types of the arguments.
        arguments: The result of `read_pairs`.

    Raises:
        SettingError: An argument is unknown, missing or ill-typed; the message names it.
    """
    values = {name.replace("-", "_"): _decode(text) for name, text in arguments.items()}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = first_problem(error)
        name = problem.field.partition(".")[0].replace("_", "-") or "arguments"
        if problem.kind == "extra_forbidden":
            known = ", ".join(f"--{field.replace('_', '-')}" for field in sorted(model.model_fields))
            raise SettingError(f"argument --{name} is unknown; known: {known}") from None
        if problem.kind == "missing":
            raise SettingError(f"argument --{name} is missing; add it") from None
        raise SettingError(f"argument --{name}={problem.value!r}: {problem.reason}; correct it") from None


def _decode(text: str) -> object:
    """Decode lists and objects; scalars stay text, which pydantic converts to the field's type."""
    if text[:1] not in ("[", "{") and text != "null":
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
