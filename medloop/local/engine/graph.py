"""A pipeline definition read for running: checked as the service checks it, with its parameters' values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from medloop.definition.caching import max_age
from medloop.definition.read import PREFIX, Definition, Parameter, Step, read_definition
from medloop.definition.retrying import read_policies
from medloop.definition.structure import (
    MAX_NAME,
    absent_steps,
    is_name,
    outer_condition,
    repeated_names,
    undeclared_parameters,
)
from medloop.errors import SettingError
from medloop.local.engine.step_runs.runners import RUN_LOCALLY
from medloop.local.errors import ServiceError, invalid


def read_graph(text: str) -> Definition:
    """Read and check a definition's JSON.

    Raises:
        ServiceError: ValidationException that names the step and what is wrong with it.
    """
    try:
        definition = read_definition(text)
        for name in repeated_names(definition):
            raise _malformed(f"Step names must be unique: '{name}' is used twice")
        for step in definition.steps:
            _check(step, definition)
        definition.in_order()
    except SettingError as error:
        reason = str(error).removeprefix(PREFIX)
        raise _malformed(reason[:1].upper() + reason[1:]) from error
    return definition


def _malformed(message: str) -> ServiceError:
    return invalid(f"Unable to parse pipeline definition. {message}")


def _check(step: Step, definition: Definition) -> None:
    if len(step.name) > MAX_NAME or not is_name(step.name):
        raise _malformed(f"'{step.name}' is no valid Name: 1 to {MAX_NAME} letters, digits, hyphens and underscores")
    if outer_condition(step) is not None:
        raise _malformed(f"Condition step '{step.name}' is within another one")
    if step.type not in RUN_LOCALLY:
        raise _malformed(
            f"Step '{step.name}' has the type '{step.type}', "
            f"which the local backend doesn't run (it runs {', '.join(sorted(RUN_LOCALLY))})"
        )
    for need in absent_steps(definition, step):
        raise _malformed(f"Step '{step.name}' refers to '{need}', which is no step")
    for name in undeclared_parameters(definition, step):
        raise _malformed(f"Step '{step.name}' refers to Parameters.{name}, which is not declared")
    max_age(step)
    read_policies(step)


def typed_parameters(declared: Iterable[Parameter], values: dict[str, str]) -> dict[str, Any]:
    """The parameters' typed values: those given at the start, else the defaults.

    Raises:
        ServiceError: ValidationException that names the parameter.
    """
    parameters = {parameter.name: parameter for parameter in declared}
    unknown = sorted(values.keys() - parameters)
    if unknown:
        raise invalid(f"Unknown parameters: {', '.join(unknown)}. They are not declared in the pipeline's definition")
    return {name: _value(parameter, values.get(name)) for name, parameter in parameters.items()}


def _value(parameter: Parameter, text: str | None) -> Any:
    name, value = parameter.name, parameter.default if text is None else text
    if value is None:
        raise invalid(f"Parameter '{name}' has no default value and was not given")
    if parameter.values and value not in parameter.values:
        raise invalid(f"Parameter '{name}' is '{value}'; it must be one of {', '.join(parameter.values)}")
    if parameter.type not in _PARSERS:
        raise invalid(f"Parameter '{name}' has the unknown type '{parameter.type}'")
    try:
        return _PARSERS[parameter.type](value)
    except ValueError as error:
        raise invalid(f"Parameter '{name}' is '{value}', which is not of type {parameter.type}") from error


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
