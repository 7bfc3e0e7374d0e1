"""Values of a dataset's elements, None where they are absent or malformed. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from typing import Any

from medloop.documents.names import normalise


@cache
def tag_of(keyword: str | int) -> Any:
    """The tag of a keyword, looked up once: headers have many elements, and series have many headers."""
    from pydicom.tag import Tag

    return Tag(keyword)


def text(dataset: Any, keyword: str) -> str:
    """A text in its normal form; several values are joined by a backslash, as in the file. "" if there is none."""
    value = _value(dataset, keyword)
    if value is None:
        return ""
    if isinstance(value, list | tuple) or hasattr(value, "append"):
        return "\\".join(normalise(str(each)) for each in value)
    return normalise(str(value))


def numbers(dataset: Any, keyword: str, num: int) -> tuple[float, ...]:
    """A number of finite numbers; empty if they are not that many."""
    value = _value(dataset, keyword)
    if value is None or value == "":
        return ()
    values = value if num > 1 else [value]
    try:
        result = tuple(float(each) for each in values)
    except (TypeError, ValueError):
        return ()
    return result if len(result) == num and all(map(math.isfinite, result)) else ()


def number(dataset: Any, keyword: str) -> float | None:
    """A finite number."""
    values = numbers(dataset, keyword, 1)
    return values[0] if values else None


def integer(dataset: Any, keyword: str, default: int = 0) -> int:
    """A whole number."""
    value = number(dataset, keyword)
    return default if value is None else int(value)


def items(dataset: Any, keyword: str) -> list[Any]:
    """The items of a sequence; empty if there are none."""
    value = _value(dataset, keyword)
    return list(value) if value is not None and hasattr(value, "append") else []


def first_item(dataset: Any, keyword: str) -> Any:
    """The first item of a sequence; an empty dictionary if there is none."""
    return next(iter(items(dataset, keyword)), {})


def in_groups(groups: Iterable[Any], macro: str) -> Any:
    """The first item of a functional group's macro: of the frame's own groups, else of the shared ones."""
    for group in groups:
        if found_items := items(group, macro):
            return found_items[0]
    return {}


def _value(dataset: Any, keyword: str) -> Any:
    try:
        return dataset[tag_of(keyword)].value
    except Exception:  # The element is converted here: a malformed one raises what its conversion meets.
        return None
