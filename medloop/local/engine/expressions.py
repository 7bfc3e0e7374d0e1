"""Pipeline expressions: `Get`, `Std:Join`, `Std:JsonGet` and conditions, as a definition spells them.

Values keep their types: an Integer parameter is a number, a Join is always a string. Conditions compare numbers with
numbers and strings with strings; anything else fails the step, so that a gate never passes by accident.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from medloop.definition.read import is_expression
from medloop.documents.json_text import parse_json
from medloop.local.errors import ExpressionError

_PART = re.compile(r"([^.\[\]]+)|\[(\d+)\]|\[(['\"])(.*?)\3\]")
_MEMBER_NAMES = ("OutputName", "InputName", "ChannelName", "MetricName", "Name")


@dataclass
class Scope:
    """The values that expressions may refer to.

    Args:
        parameters: Typed values of the pipeline parameters.
        execution: Execution variables by name.
        steps: Properties of the steps that ended (the response of the service's Describe call).
        property_files: By step and file name, the S3 URI of the JSON file.
        read: Reads the object at an S3 URI.
    """

    parameters: dict[str, Any]
    execution: dict[str, Any]
    read: Callable[[str], bytes]
    steps: dict[str, Any] = field(default_factory=dict)
    property_files: dict[tuple[str, str], str] = field(default_factory=dict)


def resolve(value: Any, scope: Scope) -> Any:
    """A copy of a document with every expression in it replaced by its value.

    Raises:
        ExpressionError: An expression has no value.
    """
    if isinstance(value, list):
        return [resolve(item, scope) for item in value]
    if not isinstance(value, dict):
        return value
    if not is_expression(value):
        return {key: resolve(item, scope) for key, item in value.items()}
    ((function, argument),) = value.items()
    if function == "Get":
        return _get(argument, scope)
    if function == "Std:Join":
        return str(argument.get("On", "")).join(_text(resolve(item, scope)) for item in argument["Values"])
    return _json_get(argument, scope)


def is_true(condition: dict[str, Any], scope: Scope) -> bool:
    """True if one condition of a Condition step is met.

    Raises:
        ExpressionError: A value is missing, the types can't be compared, or the condition is unknown.
    """
    kind = condition.get("Type", "")
    if kind == "Not":
        return not is_true(condition["Condition"], scope)
    if kind in ("Or", "And"):
        decide = any if kind == "Or" else all
        return decide(is_true(inner, scope) for inner in condition["Conditions"])
    if kind == "In":
        query = resolve(condition["QueryValue"], scope)
        return any(_equal(query, resolve(value, scope)) for value in condition["Values"])
    left, right = resolve(condition.get("LeftValue"), scope), resolve(condition.get("RightValue"), scope)
    if kind == "Equals":
        return _equal(left, right)
    return _ordered(kind, left, right)


def lookup(document: Any, path: str) -> Any:
    """The value at a path such as `a.b[0]['c d']`; a string in brackets also picks a list's member by its name.

    Raises:
        KeyError: Nothing is there.
    """
    for match in _PART.finditer(path.removeprefix("$")):
        name, index, quoted = match[1] or match[4], match[2], match[3]
        if isinstance(document, list):
            document = document[int(index)] if index and int(index) < len(document) else _named(document, quoted, name)
        elif isinstance(document, dict):
            document = document[index or name]
        else:
            raise KeyError(path)
    return document


def _named(members: list[Any], quoted: str | None, name: str) -> Any:
    for member in members if quoted else []:
        if isinstance(member, dict) and name in [member.get(key) for key in _MEMBER_NAMES]:
            return member
    raise KeyError(name)


def _get(reference: str, scope: Scope) -> Any:
    root, _, rest = reference.partition(".")
    try:
        if root == "Parameters":
            return scope.parameters[rest]
        if root == "Execution":
            return scope.execution[rest]
        if root == "Steps":
            step, _, path = rest.partition(".")
            return lookup(scope.steps[step], path)
    except KeyError as error:
        raise ExpressionError(f"{reference} has no value") from error
    raise ExpressionError(f"{reference} is not a reference to Parameters, Execution or Steps")


def _json_get(argument: dict[str, Any], scope: Scope) -> Any:
    uri, path = _json_source(argument, scope), argument["Path"]
    try:
        value = lookup(parse_json(scope.read(uri)), path)
    except KeyError as error:
        raise ExpressionError(f"the property file {uri} has nothing at '{path}'") from error
    except ValueError as error:
        raise ExpressionError(f"the property file {uri} is not JSON: {error}") from error
    except Exception as error:
        raise ExpressionError(f"the property file {uri} can't be read: {error}") from error
    if isinstance(value, dict | list) or value is None:
        raise ExpressionError(f"the property file {uri} contains no single value at '{path}'")
    return value


def _json_source(argument: dict[str, Any], scope: Scope) -> str:
    if "S3Uri" in argument:
        return str(resolve(argument["S3Uri"], scope))
    reference = argument["PropertyFile"]["Get"]
    match = re.fullmatch(r"Steps\.([^.]+)\.PropertyFiles\.(.+)", reference)
    uri = scope.property_files.get((match[1], match[2])) if match else None
    if uri is None:
        raise ExpressionError(f"{reference} is not a property file of a step that ended")
    return uri


def _text(value: Any) -> str:
    if isinstance(value, dict | list) or value is None:
        raise ExpressionError(f"Std:Join can't join {json.dumps(value)[:80]}")
    return value if isinstance(value, str) else json.dumps(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(left: Any, right: Any) -> bool:
    if type(left) is type(right) or (_is_number(left) and _is_number(right)):
        return bool(left == right)
    raise ExpressionError(f"{json.dumps(left)} and {json.dumps(right)} are of different types and can't be compared")


def _ordered(kind: str, left: Any, right: Any) -> bool:
    if not (_is_number(left) and _is_number(right)):
        raise ExpressionError(f"{kind} compares numbers, not {json.dumps(left)} and {json.dumps(right)}")
    comparisons: dict[str, bool] = {
        "GreaterThan": left > right,
        "GreaterThanOrEqualTo": left >= right,
        "LessThan": left < right,
        "LessThanOrEqualTo": left <= right,
    }
    if kind not in comparisons:
        raise ExpressionError(f"unknown condition type '{kind}'")
    return comparisons[kind]
