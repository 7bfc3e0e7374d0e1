"""Names of a segmentation's labels, by label value: the same rule in settings, arguments and hyperparameters."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from medloop.documents.names import normalise

MAX_CLASSES = 256
"""Labels are uint8."""


def require_distinct(names: list[str]) -> list[str]:
    """Refuse names without a structure, a repeated one, and one without a visible character.

    Raises:
        ValueError: The message has the name.
    """
    if len(names) < 2:
        raise ValueError("must name the background and at least one structure")
    seen: dict[str, int] = {}
    for value, name in enumerate(names):
        key = normalise(name)
        if not key:
            raise ValueError(f"label value {value} has an empty name; name it")
        if key in seen:
            raise ValueError(f"label values {seen[key]} and {value} have the same name {name!r}; rename one")
        seen[key] = value
    return names


LabelNames = Annotated[list[str], Field(max_length=MAX_CLASSES), AfterValidator(require_distinct)]
"""Class names by label value, the background first."""
