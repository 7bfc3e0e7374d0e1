"""Kinds of sources that `medloop data import` reads, one row each. Torch-free."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from medloop.errors import DataError, SettingError
from medloop.imaging.foreign_layouts import recognise
from medloop.imaging.importable import IMPORTABLE
from medloop.imaging.listing import MAX_DEPTH, DataFolder
from medloop.importing import dicom_source
from medloop.importing.bids_source import plan_bids
from medloop.importing.cases import DataSource, ImportOptions, ImportPlan, ProgressBars
from medloop.importing.class_folders_source import plan_class_folders
from medloop.importing.folder_sources import plan_mask_folders, plan_subject_pairs
from medloop.importing.medmnist_source import plan_medmnist
from medloop.importing.nnunet_source import plan_decathlon, plan_nnunet
from medloop.importing.table_source import plan_table

_PLANS: dict[str, Callable[[Path, ImportOptions, ProgressBars], ImportPlan]] = {
    "nnunet": plan_nnunet,
    "decathlon": plan_decathlon,
    "bids": plan_bids,
    "medmnist": plan_medmnist,
    "table": plan_table,
    "masks": plan_mask_folders,
    "pairs": plan_subject_pairs,
    "classes": plan_class_folders,
}
"""Readers of the layouts that `medloop.imaging.importable` recognises, by name."""


def _recogniser(number: int) -> Callable[[DataFolder], str | None]:
    def describe(root: DataFolder) -> str | None:
        evidence = IMPORTABLE[number].detect(root)
        return str(evidence) if evidence else None

    return describe


_LAYOUTS = tuple(
    DataSource(layout.name, layout.title, _recogniser(number), _PLANS[layout.name])
    for number, layout in enumerate(IMPORTABLE)
)
_BEFORE_DICOM = ("nnunet", "decathlon", "bids", "medmnist")
"""Layouts next to which there may be DICOM files that they were made of."""
SOURCES: tuple[DataSource, ...] = (
    *(source for source in _LAYOUTS if source.name in _BEFORE_DICOM),
    DataSource("dicom", "DICOM", dicom_source.recognise, dicom_source.plan),
    *(source for source in _LAYOUTS if source.name not in _BEFORE_DICOM),
)
"""In the order in which they are tried: the first that recognises a folder reads it."""
ONE_FILE = {".npz": "medmnist", ".csv": "table", ".tsv": "table", ".parquet": "table"}
"""Kinds of sources that are one file, by its suffix."""


def find_source(folder: Path, name: str | None = None) -> tuple[DataSource, str]:
    """Find the kind of a source by its folder, or by name.

    Returns:
        The kind, and the evidence for it.

    Raises:
        DataError: The folder is of no known kind.
        SettingError: No kind has this name.
    """
    if name is not None:
        return _find_by_name(name), "chosen with --source"
    root = DataFolder(folder)
    for source in SOURCES:
        if evidence := source.recognise(root):
            return source, evidence
    known = ", ".join(source.title for source in SOURCES)
    inner = root
    for _ in range(MAX_DEPTH):
        if len(inner.folders) != 1:
            break
        inner = inner.folders[0]
        if any(source.recognise(DataFolder(inner.path)) for source in SOURCES):
            raise DataError(f"{folder}: contains the data in {inner.relative}; give {inner.path}")
    if problem := recognise(root, "classification"):
        raise DataError(f"{folder}: {problem.owner_reason(str(folder))}")
    raise DataError(f"{folder}: is of no known kind ({known}); choose with --source, or give the folder of the data")


def _find_by_name(name: str) -> DataSource:
    for source in SOURCES:
        if source.name == name:
            return source
    raise SettingError(f"--source {name}: is unknown; one of {', '.join(source.name for source in SOURCES)}")
