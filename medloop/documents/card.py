"""The model card that a version carries: how it is read, and the fields that a person fills in before an approval.

Experiments are free: a pipeline runs to its end without these fields. It then registers the version as Rejected, with
the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medloop.documents.card_limits import MAX_DETAIL
from medloop.documents.file_names import CARD_FILE
from medloop.documents.json_text import parse_json
from medloop.documents.metadata import decode
from medloop.documents.registration import METADATA, METRIC_GROUPS

DETAIL_FIELDS = ("population", "exclusions", "reference_standard", "annotators")
"""Required fields that are stored in the card's custom details."""
RESULT_DETAILS = ("network", "input")
"""Custom details that the run takes from registration.json."""
_RESULTS = ("model_overview", "training_details", "evaluation_details")
_ENCODED = frozenset((*METADATA, "algorithm_type", "name", "value"))
"""Entries of these sections that the run takes from registration.json, whose texts are encoded."""
_PART = " (part {})"
_PARTS = re.compile(r"(.+) \(part (\d+)\)")
REQUIRED_CARD_FIELDS = ("intended_use", *DETAIL_FIELDS)
"""Settings below `registration.`."""
CARD_FIX = (
    f"state them in the data set's {CARD_FILE}, in a preset or with --set, and run again (jobs' results come from the "
    "cache, Register adds a version)"
)
NOT_FOR_APPROVAL = "not_for_approval"
"""The metadata entry of a version that was registered without required fields: their names, separated by spaces."""


def missing_note(names: Sequence[str]) -> str | None:
    """A note on the version to come, for the user who runs a pipeline without these fields; None if there are none."""
    if not names:
        return None
    return f"{setting_names(names)} not stated: the version will be registered as Rejected; {CARD_FIX}"


def setting_names(names: Iterable[str]) -> str:
    """Settings as a user writes them: `registration.population, registration.annotators`."""
    return ", ".join(f"registration.{name}" for name in names)


def read_card(package: Mapping[str, Any]) -> dict[str, Any] | None:
    """A version's card: status, decoded content; None without a card. Content that is no JSON object is kept as text.

    Args:
        package: The response of DescribeModelPackage.
    """
    card = package.get("ModelCard")
    if not card:
        return None
    text = card.get("ModelCardContent") or "{}"
    try:
        content = parse_json(text)
    except ValueError:
        content = text
    return {
        "status": card.get("ModelCardStatus"),
        "content": _decoded(content) if isinstance(content, dict) else {"content": str(text)},
    }


def _decoded(content: dict[str, Any]) -> dict[str, Any]:
    """Content in which the results of the run are decoded; fields that a person filled in, and URIs, are unchanged."""
    decoded = {name: _decode_results(value) if name in _RESULTS else value for name, value in content.items()}
    more = decoded.get("additional_information")
    if isinstance(more, Mapping) and isinstance(more.get("custom_details"), Mapping):
        decoded["additional_information"] = {**more, "custom_details": _join_details(more["custom_details"])}
    return decoded


def split_details(texts: Mapping[str, str]) -> dict[str, str]:
    """Make custom details, whose values have 1,024 characters at most, of texts of any length.

    A longer text continues in `NAME (part 2)`, `NAME (part 3)` and so on; `read_card` joins the parts.
    """
    return {
        name + (_PART.format(1 + start // MAX_DETAIL) if start else ""): text[start : start + MAX_DETAIL]
        for name, text in texts.items()
        for start in range(0, len(text), MAX_DETAIL)
    }


def _join_details(details: Mapping[str, Any]) -> dict[str, Any]:
    joined: dict[str, Any] = {}
    for name, value in details.items():
        part = _PARTS.fullmatch(name)
        if part and isinstance(joined.get(part[1]), str) and isinstance(value, str):
            joined[part[1]] += value
        else:
            joined[name] = decode(value) if name in RESULT_DETAILS and isinstance(value, str) else value
    return joined


def _decode_results(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _decode_entry(name, inner) for name, inner in value.items()}
    return [_decode_results(inner) for inner in value] if isinstance(value, list) else value


def _decode_entry(name: str, value: Any) -> Any:
    if name == METRIC_GROUPS:  # JSON, in which nothing is encoded
        return value
    return decode(value) if name in _ENCODED and isinstance(value, str) else _decode_results(value)


def required_fields_of(content: Mapping[str, Any] | None) -> dict[str, str]:
    """The required fields in a card's content, by name; absent and empty ones are left out."""
    card = content or {}
    details = _join_details(_mapping(_mapping(card.get("additional_information")).get("custom_details")))
    texts = {"intended_use": _mapping(card.get("intended_uses")).get("intended_uses")}
    texts |= {name: details.get(name) for name in DETAIL_FIELDS}
    return {name: str(text) for name, text in texts.items() if text and str(text).strip()}


def _mapping(value: Any) -> Mapping[str, Any]:
    """A part of a document of unknown form; empty if it is absent or of another kind."""
    return value if isinstance(value, Mapping) else {}
