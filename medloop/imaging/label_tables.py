"""Tables of labels: the columns of path, label, patient and split, in CSV, TSV and Parquet. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from medloop.documents.names import normalise
from medloop.errors import DataError, UserError
from medloop.imaging.patients import MAX_BYTES, TableError, read_lines

PARQUET = ".parquet"
MAX_ROWS = 10_000_000
_PATHS = (
    *("path", "filepath", "file_path", "image_path", "imagepath", "filename", "file_name", "file", "image_file"),
    *("image", "img", "image_id", "imageid", "image_name", "image_index", "img_path", "scan", "volume", "id_code"),
)
_LABELS = (
    *("label", "class", "category", "diagnosis", "target", "dx", "finding", "finding_labels", "label_path", "mask"),
    *("mask_path", "segmentation", "seg", "labels", "classes", "level", "grade", "class_name", "class_id"),
)
_PATIENTS = ("patient", "patient_id", "patientid", "subject", "subject_id", "participant_id", "participant", "case_id")
_SPLITS = ("split", "subset", "partition", "fold_split", "set", "dataset_split")


@dataclass(frozen=True)
class TableColumns:
    """Names of a table's columns, as they are written; "" for one that isn't there."""

    path: str
    label: str
    patient: str = ""
    split: str = ""


@dataclass(frozen=True)
class LabelTable:
    """A table's rows.

    Attributes:
        heading: Names of the columns.
        rows: (number in a spreadsheet, cells by column).
        uneven: Numbers of rows with another number of cells.
    """

    heading: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, str]], ...]
    uneven: tuple[int, ...] = ()


def find_columns(heading: Sequence[str]) -> TableColumns | None:
    """The columns of paths and labels; None if one is not there."""
    plain = {"_".join(normalise(name).casefold().replace("-", " ").split()): name for name in heading}

    def find(names: Sequence[str], *taken: str) -> str:
        return next((plain[name] for name in names if name in plain and plain[name] not in taken), "")

    path = find(_PATHS)
    label = find(_LABELS, path)
    return TableColumns(path, label, find(_PATIENTS, path, label), find(_SPLITS)) if path and label else None


def read_heading(path: Path) -> list[str]:
    """Names of a table's columns; none if it can't be read."""
    if not path.is_file():
        return []
    with suppress(TableError, OSError, UserError, ValueError):
        if path.suffix.lower() == PARQUET:
            return list(_parquet(path).schema_arrow.names)
        return next(read_lines(path, ()), (1, list[str]()))[1]
    return []


def read_label_table(path: Path) -> LabelTable:
    """Read a table; cells are stripped.

    Raises:
        DataError: It can't be read; the message names it.
        UserError: The package that reads it is not installed.
    """
    try:
        if path.suffix.lower() == PARQUET:
            heading, lines = _read_parquet(path)
        else:
            numbered = list(read_lines(path, ()))
            heading, lines = (list(numbered[0][1]) if numbered else []), numbered[1:]
    except TableError as error:
        raise DataError(f"{path.name}: {error}") from None
    names = [normalise(name) for name in heading]
    while names and not names[-1]:
        names.pop()
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"{path.name}: has column {twice!r} twice; rename one")
    rows, uneven = [], []
    for number, line in lines:
        cells = line[: len(names)] if not any(cell.strip() for cell in line[len(names) :]) else line
        if len(cells) != len(names):
            uneven.append(number)
        else:
            rows.append((number, {name: cell.strip() for name, cell in zip(names, cells, strict=True)}))
    return LabelTable(tuple(names), tuple(rows), tuple(uneven))


def _parquet(path: Path) -> Any:
    try:
        module = import_module("pyarrow.parquet")
    except ImportError:
        raise UserError(
            f"{path.name}: package pyarrow is not installed; run pip install pyarrow, or save the table as CSV"
        ) from None
    return module.ParquetFile(path)


def _read_parquet(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        file = _parquet(path)
        if path.stat().st_size > MAX_BYTES or file.metadata.num_rows > MAX_ROWS:
            raise TableError(f"has more than {MAX_BYTES} bytes or {MAX_ROWS} rows; divide it")
        columns = file.read().to_pydict()
    except (OSError, ValueError) as error:  # pyarrow's errors are either
        raise TableError(f"is no Parquet file ({type(error).__name__}); save it again, or as CSV") from None
    cells = zip(*columns.values(), strict=True)
    rows = [[_text(cell) for cell in row] for row in cells]
    return list(columns), list(enumerate(rows, 2))


def _text(cell: Any) -> str:
    if cell is None or cell != cell:
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
