"""The model card that a version carries, as rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_SECTIONS = {
    "model_overview": "model",
    "intended_uses": "use",
    "business_details": "business",
    "training_details": "training",
    "evaluation_details": "evaluation",
    "additional_information": "also",
}


def card_rows(content: Mapping[str, Any]) -> list[tuple[str, str, object]]:
    """The card as rows of section, name and value, in the order of SageMaker's sections."""
    order = [*(name for name in _SECTIONS if name in content), *(name for name in content if name not in _SECTIONS)]
    return [(_SECTIONS.get(name, name), *row) for name in order for row in _rows(name, content[name])]


def _rows(name: str, value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        if "name" in value and "value" in value:
            yield str(value["name"]), value["value"]
            return
        for key, inner in value.items():
            yield from _rows(str(key), inner)
    elif isinstance(value, list) and any(isinstance(inner, Mapping | list) for inner in value):
        for inner in value:
            yield from _rows(name, inner)
    elif isinstance(value, list):
        yield name.replace("_", " "), ", ".join(map(str, value))
    elif value not in (None, ""):
        yield name.replace("_", " "), value
