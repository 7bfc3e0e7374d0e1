"""Settings that follow from the data set of a run: its project's name, and what its model card says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloop.cloud.layout import project_of

if TYPE_CHECKING:
    from medloop.settings import DataDefaults


def data_defaults(data: str, *, is_project: bool = True) -> DataDefaults:
    """Return the settings that a data set implies.

    Args:
        data: A folder's path, or s3://bucket/prefix, whose card isn't read.
        is_project: False leaves the project's name out.

    Raises:
        SettingError: The card can't be used.
    """
    from medloop.data_card import read_data_card
    from medloop.settings import DataDefaults

    folder = None if data.startswith("s3://") else Path(data).expanduser().resolve()
    card = read_data_card(folder) if folder and folder.is_dir() else None
    settings: dict[str, Any] = card.settings if card else {}
    if is_project:
        settings["project"] = project_of(str(folder or data))
    return DataDefaults(settings, f"--data {data}")
