"""Rows under headings, and how cases.csv writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from medloop.documents.csv_text import Cell, csv_text


@dataclass(frozen=True)
class CsvTable:
    """Rows under headings."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


def to_csv(table: CsvTable) -> str:
    """Write the table as CSV. An undefined number is an empty cell, an infinite one `inf`."""
    return csv_text([table.columns, *([_rounded(cell) for cell in row] for row in table.rows)])


def _rounded(cell: Cell) -> Cell:
    if not isinstance(cell, float):
        return cell
    return None if math.isnan(cell) else f"{cell:.6g}"
