"""CSV files (RFC 4180) that are safe to open in a spreadsheet, and that read back as they were written."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence

Cell = str | int | float | None
"""A cell of a table; None is empty."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BOUNDARY = r"(^|[;,|\t\r\n])([\s\x00-\x1f\u200b-\u200f\u2060\ufeff]*'*)"
"""The begin of a cell. A spreadsheet of another language or setting separates cells at other signs than the comma, and
some ignore white space and invisible signs at the begin."""
_FORMULA = r"(?=[=+\-@\uff1d\uff0b\uff0d\uff20])"
"""Signs that begin a formula, also in their full-width forms."""
_PLAIN = re.compile(_BOUNDARY + _FORMULA)
_ESCAPED = re.compile(_BOUNDARY.replace("'*)", "'*)'") + _FORMULA)
_CONTROL_START = re.compile(r"(?='*[\t\r\n])")


def csv_cell(value: Cell) -> str:
    """The text of a cell that no spreadsheet runs as a formula.

    Text that begins like a formula gets an apostrophe in front, as do parts of it behind a separator
    (https://owasp.org/www-community/attacks/CSV_Injection). A number stays a number, as text too.

    Args:
        value: Text, a number, or nothing.
    """
    if value is None:
        return ""
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return str(value)
    text = _PLAIN.sub(r"\1\2'", value)
    return f"'{text}" if _CONTROL_START.match(value) else text


def read_cell(text: str) -> str:
    """The text of which `csv_cell` made a cell."""
    bare = text[1:] if text.startswith("'") and _CONTROL_START.match(text[1:]) else text
    return _ESCAPED.sub(r"\1\2", bare)


def csv_text(rows: Iterable[Sequence[Cell]], line_end: str = "\r\n") -> str:
    """Rows as CSV.

    Args:
        rows: The headings and the rows.
        line_end: The end of each line.
    """
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator=line_end).writerows([csv_cell(cell) for cell in row] for row in rows)
    return buffer.getvalue()


def read_csv(text: str) -> Iterator[list[str]]:
    """The rows of a text of `csv_text`, headings first.

    Raises:
        csv.Error: It is no CSV.
    """
    for row in csv.reader(io.StringIO(text, newline="")):
        yield [read_cell(cell) for cell in row]
