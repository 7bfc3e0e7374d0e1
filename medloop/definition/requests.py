"""Problems of a step's Arguments, by the shape of the request in botocore's model of the service.

Any scalar of the arguments may be an expression (`Get`, `Std:Join`, `Std:JsonGet`). A parameter is checked by its type
and its default; the values of other expressions are known only when the pipeline runs.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from medloop.definition.read import Parameter, Step, is_expression
from medloop.definition.step_types import type_of

if TYPE_CHECKING:
    from botocore.model import ServiceModel

_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
}
_PARAMETER_KINDS = {
    "String": {"string"},
    "Integer": {"integer", "long", "float", "double"},
    "Float": {"float", "double"},
    "Boolean": {"boolean"},
}
_JAVA_CLASSES = {r"\p{L}": r"\w", r"\p{N}": r"\d", r"\p{Z}": r"\s", r"\p{Alnum}": "a-zA-Z0-9"}


def request_problems(step: Step, parameters: Mapping[str, Parameter]) -> Iterator[str]:
    """Yield what the service would refuse in a step's arguments, as `path: reason`; nothing if they are no request."""
    kind = type_of(step)
    if kind.operation:
        shape = service_model().operation_model(kind.operation).input_shape
        made_up = f"{kind.filled_in}: is missing"
        yield from (problem for problem in _structure(shape, step.arguments, "", parameters) if problem != made_up)


def operation_problems(
    operation: str, request: Mapping[str, Any], service: ServiceModel | None = None
) -> Iterator[str]:
    """Yield what a service would refuse in a request, including limits and patterns, which botocore doesn't check.

    Args:
        operation: Its name, such as `CreateModelPackage`.
        request: Its parameters.
        service: botocore's model of the service; SageMaker's by default.
    """
    shape = (service or service_model()).operation_model(operation).input_shape
    yield from _structure(shape, request, "", {}) if shape is not None else ()


@functools.cache
def service_model() -> ServiceModel:
    """Load the installed botocore's model of SageMaker, once: it takes a tenth of a second.

    Without a session, which would read the user's AWS settings and fail for a profile that doesn't exist.
    """
    from botocore.model import ServiceModel

    from medloop.definition.service_models import service_models

    return ServiceModel(service_models().load_service_model("sagemaker", "service-2"), "sagemaker")


def _value(shape: Any, value: Any, path: str, parameters: Mapping[str, Parameter]) -> Iterator[str]:
    if is_expression(value):
        yield from _expression(shape, value, path, parameters)
    elif shape.type_name == "structure":
        yield from _structure(shape, value, path, parameters)
    elif shape.type_name == "list":
        yield from _list(shape, value, path, parameters)
    elif shape.type_name == "map":
        yield from _map(shape, value, path, parameters)
    else:
        yield from _scalar(shape, value, path)


def _structure(shape: Any, value: Any, path: str, parameters: Mapping[str, Parameter]) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{path}: must be a mapping, not {value!r}"
        return
    prefix = f"{path}." if path else ""
    for name in shape.required_members:
        if name not in value:
            yield f"{prefix}{name}: is missing"
    for name, member in value.items():
        if name not in shape.members:
            yield f"{prefix}{name}: the service knows no such member"
        else:
            yield from _value(shape.members[name], member, prefix + name, parameters)


def _list(shape: Any, value: Any, path: str, parameters: Mapping[str, Parameter]) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path}: must be a list, not {value!r}"
        return
    yield from _size(shape, len(value), path, "entries")
    for index, element in enumerate(value):
        yield from _value(shape.member, element, f"{path}[{index}]", parameters)


def _map(shape: Any, value: Any, path: str, parameters: Mapping[str, Parameter]) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{path}: must be a mapping, not {value!r}"
        return
    yield from _size(shape, len(value), path, "entries")
    for key, element in value.items():
        yield from _scalar(shape.key, key, f"{path} key {key!r}")
        yield from _value(shape.value, element, f"{path}.{key}", parameters)


def _scalar(shape: Any, value: Any, path: str) -> Iterator[str]:
    kinds = _KINDS.get(shape.type_name)
    if kinds is None:
        return
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        yield f"{path}: must be of type {shape.type_name}, not {value!r}"
    elif isinstance(value, str):
        yield from _text(shape, value, path)
    elif isinstance(value, int | float):
        yield from _size(shape, value, path, "")


def _text(shape: Any, value: str, path: str) -> Iterator[str]:
    yield from _size(shape, len(value), path, "characters")
    if shape.enum and value not in shape.enum:
        yield f"{path}: {value!r} is none of the service's values ({', '.join(shape.enum[:5])}, ...)"
    pattern = _pattern(shape.metadata.get("pattern"))
    if pattern is not None and not pattern.fullmatch(value):
        yield f"{path}: {value!r} does not match {shape.metadata['pattern']}"


def _size(shape: Any, size: float, path: str, unit: str) -> Iterator[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and size < low:
        yield f"{path}: {size} {unit}".rstrip() + f" is less than the minimum {low}"
    if high is not None and size > high:
        yield f"{path}: {size} {unit}".rstrip() + f" is more than the maximum {high}"


@functools.cache
def _pattern(text: str | None) -> re.Pattern[str] | None:
    """Compile one of the service's patterns, which are Java's; None for the few that Python can't read."""
    if text is None:
        return None
    for java, python in _JAVA_CLASSES.items():
        text = text.replace(java, python)
    try:
        return re.compile(re.sub(r"\$\{\d+,\d+\}$", "", text), re.DOTALL)
    except re.error:
        return None


def _expression(shape: Any, value: dict[str, Any], path: str, parameters: Mapping[str, Parameter]) -> Iterator[str]:
    if shape.type_name not in _KINDS:
        yield f"{path}: an expression can't stand for a {shape.type_name}"
        return
    if "Std:Join" in value and shape.type_name != "string":
        yield f"{path}: Std:Join gives text, and the service wants {shape.type_name}"
    parameter = parameters.get(str(value.get("Get", "")).removeprefix("Parameters."))
    if parameter is None:
        return
    if shape.type_name not in _PARAMETER_KINDS.get(parameter.type, set()):
        yield f"{path}: parameter {parameter.name} is of type {parameter.type}, and the service wants {shape.type_name}"
    elif parameter.default is not None:
        yield from _scalar(shape, parameter.default, f"{path} (default of {parameter.name})")
