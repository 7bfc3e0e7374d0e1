"""A pipeline definition read for running: its steps, their order, and what the service would refuse in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from medloop.local.errors import ServiceError, invalid
from medloop.local.expressions import references

_NAME = re.compile(r"[A-Za-z0-9](-*[A-Za-z0-9]){0,63}")
_BRANCHES = {"True": "IfSteps", "False": "ElseSteps"}


@dataclass(frozen=True)
class Step:
    """One step of a definition.

    Args:
        name: Unique in the pipeline.
        type: SageMaker's step type.
        arguments: Its request, with expressions.
        document: The whole step as the definition has it.
        needs: Names of the steps that end before it starts.
        branch: The Condition step it belongs to and the outcome it waits for; None at top level.
    """

    name: str
    type: str
    arguments: dict[str, Any]
    document: dict[str, Any]
    needs: frozenset[str]
    branch: tuple[str, str] | None = None


@dataclass(frozen=True)
class Graph:
    """All steps of a definition by name, in its order, and its parameters."""

    steps: dict[str, Step]
    parameters: list[dict[str, Any]]


def read_graph(definition: str, known_types: Collection[str]) -> Graph:
    """Read and check a definition.

    Args:
        definition: The definition's JSON text.
        known_types: Step types that can be run.

    Raises:
        ServiceError: ValidationException that names the step and what is wrong with it.
    """
    document = _parse(definition)
    steps: dict[str, Step] = {}
    for step in _steps(document["Steps"], None):
        if step.name in steps:
            raise _malformed(f"Step names must be unique: '{step.name}' is used twice")
        steps[step.name] = step
    for step in steps.values():
        _check(step, steps, known_types)
    _check_parameters(document.get("Parameters") or [], steps)
    try:
        TopologicalSorter({name: step.needs for name, step in steps.items()}).prepare()
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise _malformed(f"Steps wait for each other: {circle}") from error
    return Graph(steps, document.get("Parameters") or [])


def _malformed(message: str) -> ServiceError:
    return invalid(f"Unable to parse pipeline definition. {message}")


def _parse(definition: str) -> dict[str, Any]:
    try:
        document = json.loads(definition)
    except ValueError as error:
        raise _malformed(f"Not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("Steps"), list):
        raise _malformed("It has no list of Steps")
    return document


def _steps(documents: list[Any], branch: tuple[str, str] | None) -> Iterator[Step]:
    for document in documents:
        if not isinstance(document, dict) or not _NAME.fullmatch(str(document.get("Name", ""))):
            raise _malformed(f"A step has no valid Name: {json.dumps(document)[:120]}")
        name, kind, arguments = document["Name"], str(document.get("Type")), document.get("Arguments") or {}
        own = {"Conditions": arguments.get("Conditions")} if kind == "Condition" else arguments
        needs = {reference.split(".")[1] for reference in references(own) if reference.startswith("Steps.")}
        needs |= set(document.get("DependsOn") or []) | ({branch[0]} if branch else set())
        yield Step(name, kind, own, document, frozenset(needs), branch)
        if kind == "Condition":
            if branch:
                raise _malformed(f"Condition step '{name}' lies within another one")
            for outcome, member in _BRANCHES.items():
                yield from _steps(arguments.get(member) or [], (name, outcome))


def _check(step: Step, steps: dict[str, Step], known_types: Collection[str]) -> None:
    if step.type not in known_types:
        raise _malformed(
            f"Step '{step.name}' has the type '{step.type}', "
            f"which the local backend doesn't run (it runs {', '.join(sorted(known_types))})"
        )
    for need in sorted(step.needs):
        if need not in steps:
            raise _malformed(f"Step '{step.name}' refers to '{need}', which is no step")


def _check_parameters(parameters: list[dict[str, Any]], steps: dict[str, Step]) -> None:
    names = {parameter.get("Name") for parameter in parameters}
    for step in steps.values():
        for reference in references(step.arguments):
            if reference.startswith("Parameters.") and reference.removeprefix("Parameters.") not in names:
                raise _malformed(f"Step '{step.name}' refers to {reference}, which is not declared")


def typed_parameters(declared: list[dict[str, Any]], given: dict[str, str]) -> dict[str, Any]:
    """The parameters' typed values: those given at the start, else the defaults.

    Raises:
        ServiceError: ValidationException that names the parameter.
    """
    unknown = sorted(set(given) - {parameter["Name"] for parameter in declared})
    if unknown:
        raise invalid(f"Unknown parameters: {', '.join(unknown)}. They are not declared in the pipeline's definition")
    return {parameter["Name"]: _value(parameter, given.get(parameter["Name"])) for parameter in declared}


def _value(parameter: dict[str, Any], given: str | None) -> Any:
    name, kind = parameter["Name"], parameter.get("Type", "String")
    value = parameter.get("DefaultValue") if given is None else given
    if value is None:
        raise invalid(f"Parameter '{name}' has no default value and was not given")
    allowed = parameter.get("EnumValues")
    if allowed and value not in allowed:
        raise invalid(f"Parameter '{name}' is '{value}'; it must be one of {', '.join(allowed)}")
    try:
        return _PARSERS[kind](value)
    except KeyError as error:
        raise invalid(f"Parameter '{name}' has the unknown type '{kind}'") from error
    except ValueError as error:
        raise invalid(f"Parameter '{name}' is '{value}', which is not of type {kind}") from error


def _boolean(value: Any) -> bool:
    text = str(value).lower()
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "String": str,
    "Integer": lambda value: int(str(value)),
    "Float": float,
    "Boolean": _boolean,
}
