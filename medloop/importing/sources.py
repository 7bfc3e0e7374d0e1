"""Kinds of sources that `medloop data import` reads, one row each. Torch-free."""

from __future__ import annotations

from pathlib import Path

from medloop.errors import DataError, SettingError
from medloop.imaging.listing import DataFolder
from medloop.importing import dicom_source
from medloop.importing.cases import DataSource

SOURCES: tuple[DataSource, ...] = (
    DataSource("dicom", "DICOM", dicom_source.recognise, dicom_source.plan),
)  # fmt: skip
"""In the order in which they are tried: the first that recognises a folder reads it."""


def find_source(folder: Path, name: str | None = None) -> tuple[DataSource, str]:
    """Find the kind of a source by its folder, or by name.

    Returns:
        The kind, and the evidence for it.

    Raises:
        DataError: The folder is of no known kind.
        SettingError: No kind has this name.
    """
    if name is not None:
        return _by_name(name), "chosen with --source"
    root = DataFolder(folder)
    for source in SOURCES:
        if evidence := source.recognise(root):
            return source, evidence
    known = ", ".join(source.title for source in SOURCES)
    raise DataError(f"{folder}: is of no known kind ({known}); choose with --source, or give the folder of the data")


def _by_name(name: str) -> DataSource:
    for source in SOURCES:
        if source.name == name:
            return source
    raise SettingError(f"--source {name}: is unknown; one of {', '.join(source.name for source in SOURCES)}")
