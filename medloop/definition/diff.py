"""The differences between two definitions: steps, parameters and members by name. No SDK import."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from medloop.errors import SettingError

_KEYS = ("Name", "InputName", "OutputName", "ChannelName", "PropertyFileName", "Key", "VariantName", "MetricName")
"""Members that identify an element of a list, so that an insertion doesn't change all elements after it."""
_MAX_SHOWN = 80
_SHOWN_BEFORE = 30
"""Characters that are shown before the first difference of two long values."""


@dataclass(frozen=True)
class Change:
    """One difference.

    Args:
        kind: `added`, `removed` or `changed`.
        path: The place, such as `Steps.Train.Arguments.ResourceConfig.InstanceType`.
        before: The stored value, shortened; empty for an addition.
        after: The new value, shortened; empty for a removal.
    """

    kind: str
    path: str
    before: str
    after: str


def diff_definitions(before: str, after: str) -> list[Change]:
    """List the differences between two definitions' JSON texts, in the order of the first, then of the second.

    Raises:
        SettingError: One of the texts is not JSON.
    """
    try:
        old, new = json.loads(before), json.loads(after)
    except ValueError as error:
        raise SettingError(f"pipeline definition: is not JSON ({error}); upsert the pipeline again") from None
    return list(_changes("", old, new))


def _changes(path: str, before: Any, after: Any) -> Iterator[Change]:
    if isinstance(before, list) and isinstance(after, list):
        old, new = _named(before), _named(after)
        if (old is not None or not before) and (new is not None or not after):
            before, after = old or {}, new or {}
    if not (isinstance(before, dict) and isinstance(after, dict)):
        if before != after:
            yield Change("changed", path, *_short_pair(before, after))
        return
    for key in [*before, *(key for key in after if key not in before)]:
        inner = f"{path}.{key}" if path else str(key)
        if key not in after:
            yield Change("removed", inner, _short(before[key]), "")
        elif key not in before:
            yield Change("added", inner, "", _short(after[key]))
        else:
            yield from _changes(inner, before[key], after[key])


def _named(elements: list[Any]) -> dict[str, Any] | None:
    """Return a list's elements by name; None if the elements have no unique names.

    The arguments of a processing job are pairs `--name value` in one list.
    """
    if elements and all(isinstance(element, dict) for element in elements):
        for key in _KEYS:
            names = [element.get(key) for element in elements]
            if all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
                return dict(zip(names, elements, strict=True))
        return None
    options = elements[::2]
    pairs = len(elements) % 2 == 0 and all(isinstance(o, str) and o.startswith("--") for o in options)
    if elements and pairs and len(set(options)) == len(options):
        return dict(zip(options, elements[1::2], strict=True))
    return None


def _short_pair(before: Any, after: Any) -> tuple[str, str]:
    """Shorten two values so that both contain their first difference: long URIs differ in their digests only."""
    texts = [_text(before), _text(after)]
    unequal = (number for number, (old, new) in enumerate(zip(*texts, strict=False)) if old != new)
    start = max(0, next(unequal, min(map(len, texts))) - _SHOWN_BEFORE)
    if start == 0 or max(map(len, texts)) <= _MAX_SHOWN:
        return _cut(texts[0]), _cut(texts[1])
    return _cut(f"...{texts[0][start:]}"), _cut(f"...{texts[1][start:]}")


def _short(value: Any) -> str:
    return _cut(_text(value))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."
