"""Reads the model card that a version carries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_NAMES = {
    "model_overview": "model",
    "intended_uses": "use",
    "business_details": "business",
    "training_details": "training",
    "evaluation_details": "evaluation",
    "additional_information": "also",
}


def card_of(package: Mapping[str, Any]) -> dict[str, Any] | None:
    """A version's card: status and content; None where it has none. Content that is no JSON object is kept as text."""
    card = package.get("ModelCard")
    if not card:
        return None
    text = card.get("ModelCardContent") or "{}"
    try:
        content = json.loads(text)
    except ValueError:
        content = text
    return {
        "status": card.get("ModelCardStatus"),
        "content": content if isinstance(content, dict) else {"content": str(text)},
    }


def card_rows(content: Mapping[str, Any]) -> list[tuple[str, str, object]]:
    """The card as rows of section, name and value, in the order of SageMaker's sections."""
    order = [*(name for name in _NAMES if name in content), *(name for name in content if name not in _NAMES)]
    return [(_NAMES.get(name, name), *row) for name in order for row in _rows(name, content[name])]


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
