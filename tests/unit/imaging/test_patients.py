"""patients.csv: one patient in any form is one, missing ones are refused, alike ones reported; any maker's table."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medloop.documents.names import find_missing_values, normalise
from medloop.imaging.identity import pseudonym
from medloop.imaging.patients import DELIMITERS, PatientTable, composed, read_patients
from medloop.imaging.validation import check_dataset
from tests.unit.imaging.datasets import write_classes, write_patients

any_folder = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def read(folder: Path, content: str | bytes) -> PatientTable:
    """The table with this content."""
    (folder / "patients.csv").write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return read_patients(folder)


def read_rows(folder: Path, *patients: str, delimiter: str = ",") -> PatientTable:
    """A table with a file of each patient."""
    buffer = io.StringIO()
    rows = [("path", "patient"), *((f"a/{index}.png", patient) for index, patient in enumerate(patients))]
    csv.writer(buffer, delimiter=delimiter).writerows(rows)
    return read(folder, buffer.getvalue())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (unicodedata.normalize("NFC", "Zoë-1"), unicodedata.normalize("NFD", "Zoë-1")),
        ("\uff11\uff12", "12"),
        ("P\u00a01", "P 1"),
        ("P  1", "P 1"),
        ("P\u200b1", "P1"),
        ("\ufeffP1", "P1"),
        ("P\u00ad1", "P1"),
        ("P1\0", "P1"),
    ],
)
def test_forms_of_one_identifier_are_one_patient(tmp_path: Path, first: str, second: str) -> None:
    """Equal in their normal form: one patient, without a warning."""
    table = read_rows(tmp_path, first, second)

    assert len({row.patient for row in table.rows.values()}) == 1
    assert (table.problems, table.warnings) == ([], [])
    assert [row.written for row in table.rows.values()] == [first.strip(), second.strip()]


@pytest.mark.parametrize(
    "word", ["NA", "NaN", "None", "null", "n/a", "#N/A", "-", "?", ".", "<NA>", "\uff2e\uff21", "#NV"]
)
def test_a_missing_patient_is_refused_by_row(tmp_path: Path, word: str) -> None:
    """A word for none is no patient, as an empty cell is none: six strangers must not be one."""
    table = read_rows(tmp_path, "7", word, "8", word)

    lines = [problem.line for problem in table.problems]
    assert [line.split(":")[1] for line in lines] == [" row 3", " row 5"]
    assert all(line.endswith("which means that it is missing; give every file its patient") for line in lines)


def test_alike_identifiers_are_reported_with_rows(tmp_path: Path) -> None:
    """One line of all pairs, never merged; the data's owner sees the identifiers, a log the rows alone."""
    table = read_rows(tmp_path, "007", "7", "P7", "p7", "9", "7")

    assert len({row.patient for row in table.rows.values()}) == 5
    [warning] = table.warnings
    fix = "write a patient's identifier in one form in every row"
    expected = "patients '007' and '7' (rows 2 and 3), 'P7' and 'p7' (rows 4 and 5) may be one patient; "
    assert warning.line == f"patients.csv: {expected}{fix}"
    assert warning.hide(str) == f"patients.csv: rows 2 and 3, rows 4 and 5 may be one patient; {fix}"


def test_many_alike_identifiers_are_one_short_line(tmp_path: Path) -> None:
    """A table of which half was written by a spreadsheet."""
    table = read_rows(tmp_path, *(f"{number:05d}" if number % 2 else f"{number // 2 * 2 + 1}" for number in range(200)))

    [warning] = table.warnings
    assert " and 95 more may be one patient" in warning.line
    assert len(warning.line) < 300


@pytest.mark.parametrize(
    ("patients", "expected"),
    [
        (["unknown", "7", "unknown"], "'unknown' (rows 2 and 4) count as one patient"),
        (["1.23457E+11", "7", "1.23457E+11"], "'1.23457E+11' (rows 2 and 4) may be several patients"),
        (["-999", "7", "8"], "'-999' (row 2) count as one patient"),
        (["tuntematon", "P1", "tuntematon", "P2", "P3", "P4"], "'tuntematon' (rows 2 and 4) count as one patient"),
        (["3-Jan", "7", "8"], "'3-Jan' (row 2) look like dates"),
    ],
)
def test_identifiers_that_may_be_several_patients(tmp_path: Path, patients: list[str], expected: str) -> None:
    """A word for a stranger, and a number that a spreadsheet shortened: read as they are, and reported."""
    [warning] = read_rows(tmp_path, *patients).warnings
    assert expected in warning.line


def test_pseudonyms_of_plain_identifiers_are_those_of_earlier_versions(tmp_path: Path) -> None:
    """The hash is over the identifier as it is written."""
    table = read_rows(tmp_path, "P-007", "Müller, Hans", "42")
    assert [row.patient for row in table.rows.values()] == ["P-007", "Müller, Hans", "42"]
    assert pseudonym(b"k" * 32, "patient:P-007") == "p6b75c65ff394"


def test_attributes_and_headings_are_normalised(tmp_path: Path) -> None:
    """Two rows of a patient with one site in two forms agree; a heading may have a byte-order mark and capitals."""
    table = read(tmp_path, "\ufeff\ufeffPath,PATIENT,Si\u0308te\na/1,x,Zu\u0308rich \na/2,x,Z\u00fcrich\n")
    assert table.problems == []
    assert [row.attributes for row in table.rows.values()] == [{"S\u00efte": "Z\u00fcrich"}] * 2


def read_attribute(folder: Path, *values: str) -> tuple[list[str | None], list[str]]:
    """The attribute `x` of patients with these values, and the warnings."""
    rows = "".join(f'a/{index},P{index},"{value}"\n' for index, value in enumerate(values))
    table = read(folder, f"path,patient,x\n{rows}")
    assert table.problems == []
    return [row.attributes.get("x") for row in table.rows.values()], [warning.line for warning in table.warnings]


@pytest.mark.parametrize(
    "word",
    [
        "",
        " ",
        "NA",
        "nan",
        "n/a",
        "NULL",
        "#N/A",
        "unknown",
        "Unknown",
        "not recorded",
        "?",
        "-",
        "k.A.",
        "\uff2e\uff21",
    ],
)
def test_a_missing_attribute_is_not_stated(tmp_path: Path, word: str) -> None:
    """A word for none is no value, as an empty cell is none; check says how many patients have none."""
    values, [warning] = read_attribute(tmp_path, "f", word, "m", word)
    assert values == ["f", None, "m", None]
    assert "patients.csv: columns not stated for every patient: x (2 of 4 patients: " in warning


@pytest.mark.parametrize(
    "values", [("12", "-99", "7"), ("0", "-9", "1"), ("1.5", "-999.0", "2"), ("1,5", "-9999", "2")]
)
def test_a_code_among_positive_numbers_is_not_stated(tmp_path: Path, values: tuple[str, str, str]) -> None:
    """Spreadsheets and registries write -9, -99, -999 for a missing number."""
    assert read_attribute(tmp_path, *values)[0] == [values[0], None, values[2]]


@pytest.mark.parametrize(
    "values",
    [
        ("-9", "-8.5", "3"),  # of a scale with negative numbers
        ("+", "-", "++"),
        ("+/-", "-", "+"),
        ("-1", "1", "0"),
        ("none", "silicone"),  # an implant
        ("None", "0"),
        ("not applicable", "pT2"),
        ("Nil", "saline"),
        ("nausea", "Nana"),
        ("other", "O"),
    ],
)
def test_words_and_numbers_that_may_be_meant_are_values(tmp_path: Path, values: tuple[str, ...]) -> None:
    """They are kept, and those that may stand for a missing value are named."""
    kept_values, warnings = read_attribute(tmp_path, *values)
    assert kept_values == list(values)
    doubtful = {"none", "None", "not applicable", "Nil", "-1"} & set(values)
    assert [f"{word!r}" in warnings[0] and "count as values" in warnings[0] for word in doubtful] == [True] * len(
        doubtful
    )


@pytest.mark.parametrize(
    "values",
    [("M", "m"), ("Site A", "site_a"), ("Z\u00fcrich", "Zurich"), ("7", "7.0"), ("3 T", "3T"), ("II a", "IIa", "NA")],
)
def test_alike_values_of_an_attribute_are_named(tmp_path: Path, values: tuple[str, ...]) -> None:
    """They count as several, so each is a subgroup with too few patients for a score."""
    lines = read_attribute(tmp_path, *values, "other")[1]
    [warning] = [line for line in lines if "may be one" in line]
    first, second = sorted(values[:2])
    assert f"patients.csv: columns x {first!r} and {second!r}: may be one, and count as several" in warning


@pytest.mark.parametrize(
    "values",
    [("<50", ">50"), ("\u226450", ">50"), ("0.5", "-0.5"), ("1.5", "15"), ("+", "-"), ("NA", "na", "1"), ("T1", "T2")],
)
def test_values_that_differ_in_signs_or_numbers_are_several(tmp_path: Path, values: tuple[str, ...]) -> None:
    """No doubt is reported where there is none."""
    assert not [line for line in read_attribute(tmp_path, *values)[1] if "may be one" in line]


def test_alike_columns_are_named(tmp_path: Path) -> None:
    """Two columns of one attribute make two sets of subgroups."""
    table = read(tmp_path, "path,patient,Sex,sex\na/1,x,M,M\na/2,y,F,M\n")
    assert [warning.line for warning in table.warnings] == [
        "patients.csv: columns 'Sex' and 'sex': may be one, and count as several, with subgroups of their own; write "
        "each in one form"
    ]


def test_attributes_are_no_doubt_about_patients(tmp_path: Path) -> None:
    """Leakage stays "none" where only attributes are missing; rows of a patient agree in any word for none."""
    write_classes(tmp_path)
    rows = [
        f"{name}/scan {i}.png,P{name}{i},{word}"
        for name in ("cyst", "normal")
        for i, word in enumerate(["NA", *" ?-x"])
    ]
    write_patients(tmp_path, rows, header="path,patient,sex")
    report = check_dataset(tmp_path, "classification")
    assert report.doubts_of_identifiers == []
    assert read(tmp_path, "path,patient,x\na/1,P,NA\na/2,P,\n").problems == []


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_tables_of_any_spreadsheet(tmp_path: Path, delimiter: str, encoding: str, ending: str) -> None:
    """Comma, semicolon or tab; with a byte-order mark or without; with empty lines and unused columns."""
    lines = ["", "path,patient,sex,,", "a/1,\u00c5sa,f,,", ",,,,", "a/2,7,m,,"]
    table = read(tmp_path, ending.join(lines).replace(",", delimiter).encode(encoding))
    assert table.problems == []
    rows = [(row.number, row.path, row.patient, row.attributes) for row in table.rows.values()]
    assert rows == [(3, "a/1", "\u00c5sa", {"sex": "f"}), (5, "a/2", "7", {"sex": "m"})]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"path,patient\na,x\nb,J\xfcrgen\n", "row 3: is not in UTF-8"),
        (b"path,patient\r\na,x\rb,J\xfcrgen\n", "row 3: is not in UTF-8"),
        (b'path,patient\na,x\nb,"x"y\n', "row 3: is no comma-separated table"),
        (
            b"path,patient\na," + b"x" * 200_000 + b"\n",
            "row 2: has a cell of more than 131072 characters; close its quotation mark",
        ),
        (b"path,patient\na,x,y,z\n", "row 2: has 4 cells where the first line has 2"),
        (b"path,patient\na\0,x\n", "row 2: column path"),
        (b"path,patient,sex,sex\n", "has column 'sex' twice"),
        (
            b"path," + b"p" * 200_000 + b"\n",
            "row 1: has a cell of more than 131072 characters; close its quotation mark",
        ),
        ("path,patient,se\u0301x,s\u00e9x\n".encode(), "has column 's\u00e9x' twice"),
        (b"\n\n\n", "has no column path and no column patient"),
        (b"\xff\xfep", "is not in UTF-8"),
    ],
)
def test_a_broken_table_is_refused_in_one_line(tmp_path: Path, content: bytes, expected: str) -> None:
    """The row or the column is named."""
    [problem] = read(tmp_path, content).problems
    assert expected in problem.line
    assert "\n" not in problem.line


def test_words_are_no_strangers_among_names(tmp_path: Path) -> None:
    """Where identifiers are words, or a word is in one row, nothing is unusual."""
    assert read_rows(tmp_path, "anna", "bert", "anna", "P1", "P2").warnings == []
    assert read_rows(tmp_path, "anna", "P1", "P2", "P3", "P4").warnings == []


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_the_line_that_names_the_delimiter_is_no_heading(tmp_path: Path, delimiter: str) -> None:
    """Excel writes it; rows keep their numbers."""
    text = "sep=,\r\npath,patient\r\na/1,7\r\n".replace(",", delimiter)
    assert [(row.number, row.patient) for row in read(tmp_path, text.encode()).rows.values()] == [(3, "7")]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("heading", ["path,patient", "Patient,Path"])
def test_utf_16_without_a_mark_is_read(tmp_path: Path, encoding: str, heading: str) -> None:
    """A database's export."""
    table = read(tmp_path, f"{heading}\nM\u00fc,M\u00fc\n".encode(encoding))
    assert [row.patient for row in table.rows.values()] == ["M\u00fc"]


def test_a_row_that_is_there_twice(tmp_path: Path) -> None:
    """The same row again changes nothing; another patient or attribute of one path is refused, and says so."""
    assert read(tmp_path, b"path,patient,sex\na,7,f\na,7,f\n./a, 7,f\n").problems == []
    lines = [problem.line for problem in read(tmp_path, b"path,patient,sex\na,7,f\na,8,f\na,7,m\n").problems]
    assert "row 3: column path repeats row 2 with another patient; remove the wrong row" in lines[0]
    assert "row 4: column path repeats row 2 with other attributes; remove the wrong row" in lines[1]


cells = st.text(
    st.one_of(st.sampled_from("abP7 ,;\t\"'\\/.\u00e9\u0301\u200b\u00a0"), st.characters(codec="utf-8")), max_size=12
)
tables = st.lists(st.lists(cells, min_size=2, max_size=4), max_size=5)


def _stated(cells_of_site: list[str], oracle: list[list[str]]) -> str:
    """A row's site in its normal form; empty if it is missing."""
    missing = find_missing_values({normalise(line[2]) for line in oracle[1:] if len(line) > 2})
    site = normalise(cells_of_site[0]) if cells_of_site else ""
    return "" if site in missing else site


@pytest.mark.slow
@given(tables, st.sampled_from(DELIMITERS), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["utf-8", "utf-8-sig"]))
@any_folder
def test_a_table_is_read_as_csv_reads_it(
    tmp_path: Path, rows: list[list[str]], delimiter: str, ending: str, encoding: str
) -> None:
    """What a csv.writer wrote is read as csv.DictReader reads it, or refused by row: no cell is taken for another."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=ending)
    writer.writerows([["path", "patient", "site"], *rows])
    table = read(tmp_path, buffer.getvalue().encode(encoding))

    oracle = list(csv.reader(io.StringIO(buffer.getvalue(), newline=""), delimiter=delimiter))
    for row in table.rows.values():
        path, patient, *site = oracle[row.number - 1]
        assert (row.path, row.patient) == (path.strip(), normalise(patient))
        assert row.attributes.get("site", "") == _stated(site, oracle)
    refused = {int(match[1]) for problem in table.problems if (match := re.match(r"row (\d+): ", problem.message))}
    written = {number for number, cells in enumerate(oracle[1:], 2) if any(cell.strip() for cell in cells)}
    unread = written - {row.number for row in table.rows.values()} - refused
    accepted = [(row.path, row.patient, row.attributes.get("site", "")) for row in table.rows.values()]
    for number in unread:  # The same row again.
        path, patient, *site = (*oracle[number - 1], "")
        assert any(
            composed(path) == composed(row[0]) and row[1:] == (normalise(patient), _stated(site, oracle))
            for row in accepted
        )


mutations = st.one_of(
    st.tuples(st.just("insert"), st.integers(0, 80), st.binary(min_size=1, max_size=3)),
    st.tuples(st.just("delete"), st.integers(0, 80), st.binary(min_size=1, max_size=9)),
    st.tuples(
        st.just("insert"),
        st.integers(0, 80),
        st.sampled_from(
            [b"\xef\xbb\xbf", b"\r", b"\r\n", b'"', b"\0", b";", b"\t", b",", b"\xe9", b"x" * 150_000, b"\n\n"]
        ),
    ),
)


@pytest.mark.slow
@given(st.lists(mutations, max_size=4))
@any_folder
def test_no_table_breaks_the_reader(tmp_path: Path, changes: list[tuple[str, int, bytes]]) -> None:
    """Bytes are inserted and cut out anywhere: the table is read or refused, each refusal in one line that names it."""
    content = 'path,patient,site\na/1.png,7,"Basel, CH"\r\na/2.png,Zoë,Z\u00fcrich\n\na,P 1,\n'.encode()
    for kind, position, data in changes:
        end = position + (len(data) if kind == "delete" else 0)
        content = content[:position] + (data if kind == "insert" else b"") + content[end:]
    table = read(tmp_path, content)

    for problem in [*table.problems, *table.warnings]:
        assert problem.line.startswith("patients.csv: ")
        assert len(problem.line.splitlines()) == 1
        assert re.search(r"row \d+|rows \d+|column|first line", problem.line)


def test_a_path_matches_in_any_white_space(tmp_path: Path) -> None:
    """A file whose name has a narrow non-breaking space (macOS screenshots) is named with a plain one."""
    write_classes(tmp_path)
    (tmp_path / "cyst" / "scan 1.png").rename(tmp_path / "cyst" / "scan\u202f1.png")
    write_patients(tmp_path, ["cyst/scan 1.png,anna", "cyst,bert", "normal,carla"])

    report = check_dataset(tmp_path, "classification")
    assert report.problems == []
    assert report.patients["cyst/scan\u202f1.png"] == "anna"


def test_a_path_matches_in_any_case(tmp_path: Path) -> None:
    """A table from Windows, which doesn't distinguish it."""
    write_classes(tmp_path)
    write_patients(tmp_path, ["Cyst/SCAN 1.PNG,anna", "cyst,bert", "NORMAL,carla"])
    report = check_dataset(tmp_path, "classification")
    assert report.problems == []
    assert report.patients["cyst/scan 1.png"] == "anna"
    assert set(report.patients.values()) == {"anna", "bert", "carla"}


def test_a_path_that_two_files_match_names_neither(tmp_path: Path) -> None:
    """Two files in two forms, and a row in a third; a row that names one exactly names that one alone."""
    write_classes(tmp_path)
    (tmp_path / "cyst" / "scan 1.png").rename(tmp_path / "cyst" / "scan\u202f1.png")
    (tmp_path / "cyst" / "scan 2.png").rename(tmp_path / "cyst" / "scan\u00a01.png")
    write_patients(tmp_path, ["cyst/scan 1.png,anna", "cyst,bert", "normal,carla"])
    [problem, _] = check_dataset(tmp_path, "classification").problems
    assert problem.line.startswith("patients.csv: row 2: column path names no file or folder of the data set")
    write_patients(tmp_path, ["cyst/scan\u00a01.png,anna", "cyst,bert", "normal,carla"])
    report = check_dataset(tmp_path, "classification")
    assert report.problems == []
    assert report.patients["cyst/scan\u202f1.png"] == "bert"


@pytest.mark.parametrize("name", ["Patients.CSV", "patient.csv", "patients.csv.txt", "patients.xlsx", "patients.txt"])
def test_a_table_under_another_name_is_named(tmp_path: Path, name: str) -> None:
    """It isn't read, which a user who made it would not expect."""
    write_classes(tmp_path)
    (tmp_path / name).write_text("path,patient")
    lines = [warning.line for warning in check_dataset(tmp_path, "classification").warnings]
    assert f"{name}: is not read; save it as patients.csv, or rename it" in lines
    write_patients(tmp_path, ["cyst,bert", "normal,carla"])
    assert not any("is not read" in warning.line for warning in check_dataset(tmp_path, "classification").warnings)
