"""What a person must have stated of a model before anyone may approve it: five settings, and where the card keeps them.

Experiments are free: a pipeline runs whole without them. What it registers then is Rejected, and says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

STATEMENTS = ("intended_use", "population", "exclusions", "reference_standard", "annotators")
"""Settings below `registration.`."""
MEND = (
    "state them in the preset or with --set, and run again (jobs' results come from the cache, Register adds a version)"
)
NOT_FOR_APPROVAL = "not_for_approval"
"""The metadata entry of a version that was registered without them: their names, with spaces between."""


def stated_in(card: Mapping[str, Any] | None) -> dict[str, str]:
    """The statements that a model card's content holds, by name; those that are absent or empty are left out."""
    content = card or {}
    uses = mapping(content.get("intended_uses"))
    details = mapping(mapping(content.get("additional_information")).get("custom_details"))
    found = {name: uses.get("intended_uses") if name == "intended_use" else details.get(name) for name in STATEMENTS}
    return {name: str(text) for name, text in found.items() if text and str(text).strip()}


def missing_note(names: Sequence[str]) -> str | None:
    """What someone who runs a pipeline should know of the version to come; None where all is stated."""
    if not names:
        return None
    return f"{settings_named(names)} not stated: the version will be registered as Rejected; {MEND}"


def settings_named(names: Iterable[str]) -> str:
    """Settings as a user writes them: `registration.population, registration.annotators`."""
    return ", ".join(f"registration.{name}" for name in names)


def mapping(value: Any) -> Mapping[str, Any]:
    """A part of a document of unknown form; empty where it is absent or of another kind."""
    return value if isinstance(value, Mapping) else {}
