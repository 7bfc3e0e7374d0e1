"""Rows under headings, and how cases.csv writes them: safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

Cell = str | int | float | None
"""A cell of a table; None and NaN are undefined."""
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class CsvTable:
    """Rows under headings."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


def to_csv(table: CsvTable) -> str:
    """Write the table as CSV (RFC 4180). An undefined number is an empty cell, an infinite one `inf`.

    A spreadsheet runs a text that begins like a formula: such text gets an apostrophe in front
    (https://owasp.org/www-community/attacks/CSV_Injection).
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow([_text(name) for name in table.columns])
    writer.writerows([_text(cell) for cell in row] for row in table.rows)
    return buffer.getvalue()


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return "" if math.isnan(cell) else f"{cell:.6g}"
    if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS):
        return "'" + cell
    return str(cell)
