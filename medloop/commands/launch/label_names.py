"""The option --labels: names of label values."""

from __future__ import annotations

from medloop.errors import SettingError


def parse_label_names(text: str) -> list[str]:
    """Parse names by label value, the background first.

    Raises:
        SettingError: They are no names, or one is there twice.
    """
    from pydantic import TypeAdapter, ValidationError

    from medloop.documents.label_names import LabelNames
    from medloop.documents.reading import first_problem

    try:
        return TypeAdapter(LabelNames).validate_python([name.strip() for name in text.split(",")])
    except ValidationError as error:
        raise SettingError(f"--labels {text}: {first_problem(error).reason}; write background,NAME,...") from None
