"""patients.csv: which file or folder belongs to which patient, and what else is known of the patient. Torch-free."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medloop.documents.names import (
    alike,
    alike_values,
    find_doubtful_values,
    find_missing_values,
    fold_identifier,
    is_date,
    is_missing,
    is_placeholder,
    is_shortened,
    normalise,
)
from medloop.imaging.problems import Problem

PATIENTS_FILE = "patients.csv"
_NEAR_MISS = re.compile(r"patients?(\.csv)?\.(csv|txt|tsv|xlsx?|ods)", re.IGNORECASE)
REQUIRED = ("path", "patient")
IDENTIFYING = frozenset(
    {"name", "first_name", "given_name", "last_name", "family_name", "full_name", "surname", "forename", "initials"}
    | {"patient_name", "patients_name", "patient_id", "patient_number", "subject_name", "medical_record_number", "mrn"}
    | {"ssn", "social_security_number", "national_id", "nhs_number", "insurance_number", "accession_number"}
    | {"birth_date", "birthdate", "date_of_birth", "patient_birth_date", "dob", "birthday"}
    | {"address", "street", "phone", "phone_number", "telephone", "email", "e_mail"}
)
"""Columns that would carry a person's identity into records and reports; case and punctuation don't matter."""
_IDENTIFYING = frozenset(name.replace("_", "") for name in IDENTIFYING)
MAX_BYTES = 64 * 2**20
DELIMITERS = (",", ";", "\t")
"""Spreadsheets write the second where a comma is the decimal sign, and the third as "Unicode text"."""
_UTF_16 = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"p\0": "utf-16-le", b"\0p": "utf-16-be"}
"""By the first two bytes: a byte-order mark, or the first letter of the heading."""
NUMBERED = 0.8
"""Share of identifiers with digits from which one without is unusual."""
MAX_LISTED = 5
"""Rows, and groups of patients, that one message names."""
_Values = Mapping[str, set[str]]
"""Values by column, normalised."""
_Doubts = Mapping[tuple[str, ...], list[int]]
"""Rows by identifiers."""


class TableError(Exception):
    """A problem of the table that makes it unusable."""


@dataclass(frozen=True, slots=True)
class PatientRow:
    """One line: everything under `path` is of `patient`.

    Attributes:
        number: Of the row in a spreadsheet; the header is row 1.
        path: Relative to the data set's root, as it is written.
        patient: The patient's identifier in its normal form.
        written: The identifier as it is written.
        attributes: The further columns, normalised; empty cells and words for a missing value are left out.
    """

    number: int
    path: str
    patient: str
    written: str
    attributes: dict[str, str]


@dataclass
class PatientTable:
    """The table, by normalised path, and what is wrong or doubtful in it."""

    rows: dict[str, PatientRow] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    present: bool = False

    def find(self, path: str) -> PatientRow | None:
        """The row of a case: its own, or that of the nearest folder above it."""
        parts = composed(path).split("/")
        candidates = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
        return next((self.rows[name] for name in candidates if name in self.rows), None)

    def match_paths(self, known: Iterable[str]) -> None:
        """Match every row to a known file or folder, and note the rows that name none.

        A path that is no known one matches the single one that differs in white space, invisible characters or case
        only.
        """
        names = {composed(path) for path in known}
        strangers = [name for name in self.rows if name not in names]
        loose: dict[str, list[str]] = defaultdict(list)
        for name in names - self.rows.keys() if strangers else ():
            loose[_loose(name)].append(name)
        for name in strangers:
            candidates = loose.pop(_loose(name), [])
            if len(candidates) == 1:
                self.rows[candidates[0]] = self.rows.pop(name)
            else:
                message = "column path names no file or folder of the data set; correct or remove the row"
                self.note(self.rows[name].number, message)

    def check_attributes(self) -> None:
        """Note patients whose attributes differ from row to row."""
        first: dict[str, PatientRow] = {}
        for row in self.rows.values():
            if first.setdefault(row.patient, row).attributes != row.attributes:
                message = f"other attributes than row {first[row.patient].number} of the same patient; make them agree"
                self.note(row.number, message)

    def check_values(self, values: _Values) -> None:
        """Warn of attributes that aren't stated for every patient, and of values that may be missing, or be one.

        Args:
            values: Those of each attribute's column.
        """
        by_patient = {row.patient: row.attributes for row in self.rows.values()}
        gaps, doubtful, several = [], [], [" and ".join(map(repr, names)) for names in alike(values)]
        for name, column in values.items():
            if num := sum(name not in attributes for attributes in by_patient.values()):
                missing = ", ".join(value or "empty" for value in sorted(find_missing_values(column)))
                gaps.append(f"{name} ({num} of {len(by_patient)} patients: {missing})")
            doubtful += [f"{name} {value!r}" for value in sorted(find_doubtful_values(column))]
            stated = column - find_missing_values(column)
            several += [f"{name} {' and '.join(map(repr, group))}" for group in alike_values(stated)]
        if gaps:
            message = "columns not stated for every patient: {}; those without are in no subgroup of it"
            self._warn_of_columns(gaps, message)
        if doubtful:
            fix = "columns {}: count as values, with subgroups; leave the cell empty if the value is missing"
            self._warn_of_columns(doubtful, fix)
        if several:
            fix = "columns {}: may be one, and count as several, with subgroups of their own; write each in one form"
            self._warn_of_columns(several, fix)

    def _warn_of_columns(self, texts: Sequence[str], message: str) -> None:
        more = f" and {len(texts) - MAX_LISTED} more" if len(texts) > MAX_LISTED else ""
        self.warnings.append(Problem(PATIENTS_FILE, message.format(", ".join(texts[:MAX_LISTED]) + more)))

    def check_identifiers(self) -> None:
        """Warn of identifiers that may be one patient's, or may stand for more patients than one."""
        numbers: dict[str, list[int]] = defaultdict(list)
        for row in self.rows.values():
            numbers[row.patient].append(row.number)
        pairs: _Doubts = {
            tuple(group): [numbers[name][0] for name in group] for group in alike(numbers, fold_identifier)
        }
        self._warn(pairs, "may be one patient", "write a patient's identifier in one form in every row")
        unusual = _without_digits(numbers)
        vague: _Doubts = {(name,): rows for name, rows in numbers.items() if is_placeholder(name) or name in unusual}
        self._warn(vague, "count as one patient", "if the word stands for a missing identifier, give each patient one")
        short: _Doubts = {(name,): rows for name, rows in numbers.items() if is_shortened(name)}
        self._warn(short, "may be several patients", "a spreadsheet shortened the number; export the column as text")
        dates: _Doubts = {(name,): rows for name, rows in numbers.items() if is_date(name)}
        self._warn(dates, "look like dates", "if a spreadsheet made them of other identifiers, export those as text")

    def _warn(self, doubts: _Doubts, message: str, fix: str) -> None:
        """Add one warning on all doubts of a kind: identifiers, and their rows."""
        if not doubts:
            return
        more = f" and {len(doubts) - MAX_LISTED} more" if len(doubts) > MAX_LISTED else ""
        shown = {group: _listed(rows) for group, rows in list(doubts.items())[:MAX_LISTED]}
        named = [f"{' and '.join(map(repr, group))} ({rows})" for group, rows in shown.items()]
        hidden, shown_to_owner = (f"{', '.join(texts)}{more} {message}; {fix}" for texts in (shown.values(), named))
        self.warnings.append(Problem(PATIENTS_FILE, hidden, for_owner=f"patients {shown_to_owner}"))

    def note(self, number: int, message: str) -> None:
        """Add the problem of a row."""
        self.problems.append(Problem(PATIENTS_FILE, f"row {number}: {message}"))


def composed(path: str) -> str:
    """A relative path for comparing: forward slashes, no `./`, composed letters (file systems differ in those)."""
    text = path.strip().replace("\\", "/")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    return unicodedata.normalize("NFC", ("/" if text.startswith("/") else "") + "/".join(parts))


def _loose(path: str) -> str:
    return "/".join(map(normalise, path.split("/"))).casefold()


def _without_digits(numbers: Mapping[str, list[int]]) -> set[str]:
    """The identifiers in several rows that have no digit, where most have: words for a missing one in any language."""
    wordlike = {name for name in numbers if not any(map(str.isdecimal, name))}
    if len(numbers) - len(wordlike) < NUMBERED * len(numbers):
        return set()
    return {name for name in wordlike if len(numbers[name]) > 1}


def _listed(rows: list[int]) -> str:
    """Rows as text: `row 2`, `rows 2, 3 and 4`, or the first few and how many more."""
    if len(rows) == 1:
        return f"row {rows[0]}"
    shown = [*map(str, rows[:MAX_LISTED]), *([f"{len(rows) - MAX_LISTED} more"] if len(rows) > MAX_LISTED else [])]
    return f"rows {', '.join(shown[:-1])} and {shown[-1]}"


def read_patients(root: Path) -> PatientTable:
    """Read `patients.csv` in a data set's root; an absent file gives an empty table."""
    table = PatientTable()
    path = root / PATIENTS_FILE
    if not path.exists():
        table.warnings += [
            Problem(near, f"is not read; save it as {PATIENTS_FILE}, or rename it") for near in _near_misses(root)
        ]
        return table
    table.present = True
    try:
        lines = read_lines(path)
        header = _read_header(next(lines, (1, []))[1])
        rows = list(lines)
        values = _values_of_attributes(header, [line for _, line in rows])
        missing = {name: find_missing_values(column) for name, column in values.items()}
        for number, line in rows:
            _add_row(table, number, header, line, missing)
    except TableError as error:
        table.problems.append(Problem(PATIENTS_FILE, str(error)))
        return table
    table.check_attributes()
    table.check_identifiers()
    table.check_values(values)
    return table


def _values_of_attributes(header: list[str], lines: Sequence[list[str]]) -> _Values:
    columns = {index: name for index, name in enumerate(header) if name not in REQUIRED}
    cells = {name: {line[index] for line in lines if index < len(line)} for index, name in columns.items()}
    return {name: {normalise(cell) for cell in column} for name, column in cells.items()}


def _near_misses(root: Path) -> list[str]:
    """Files in the root that were probably meant as `patients.csv`: in capitals, the singular, or a spreadsheet."""
    return sorted(path.name for path in root.iterdir() if _NEAR_MISS.fullmatch(path.name)) if root.is_dir() else []


def read_lines(path: Path, required: Sequence[str] = REQUIRED) -> Iterator[tuple[int, list[str]]]:
    """The lines that aren't blank, with their numbers in a spreadsheet."""
    text = _read_text(path)
    number = 0
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_find_delimiter(text, required), strict=True)
        for number, line in enumerate(reader, 1):
            if any(cell.strip() for cell in line) and not _is_separator("".join(line)):
                yield number, line
    except csv.Error as error:
        if "field limit" in str(error):
            text = (
                f"has a cell of more than {csv.field_size_limit()} characters; close its quotation mark, or shorten it"
            )
            raise TableError(f"row {number + 1}: {text}") from None
        raise TableError(f"row {number + 1}: is no comma-separated table ({error}); save it as CSV") from None


def _find_delimiter(text: str, required: Sequence[str]) -> str:
    """The sign that divides the first line into the required columns, or into several; a comma if none does."""
    start = next((line for line in io.StringIO(text, newline="") if line.strip() and not _is_separator(line)), "")
    for sign in DELIMITERS:
        names = _names(next(csv.reader([start], delimiter=sign)))
        if set(required) <= set(names) and len(names) > 1:
            return sign
    return ","


def _is_separator(line: str) -> bool:
    """True for Excel's line that names the delimiter, such as `sep=;`, as it is written or read."""
    return line.strip().rstrip("".join(DELIMITERS)).lower() == "sep="


def _read_text(path: Path) -> str:
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise TableError(f"is no file below {MAX_BYTES} bytes; save the table again")
        content = path.read_bytes()
        return content.decode(_UTF_16.get(content[:2].lower(), "utf-8-sig"))
    except OSError as error:
        raise TableError(f"can't be read ({error.strerror}); check its permissions") from None
    except UnicodeDecodeError as error:
        row = 1 + len(re.findall(rb"\r\n?|\n", error.object[: error.start]))
        raise TableError(f"row {row}: is not in UTF-8; save the table as UTF-8") from None


def _names(header: list[str]) -> list[str]:
    """Names of columns; `Path` and `PATIENT` are those that are required, unless they are there in small letters."""
    names = [normalise(name) for name in header]
    for required in set(REQUIRED) - set(names):
        names = [required if name.casefold() == required else name for name in names]
    while names and not names[-1]:  # A spreadsheet writes empty columns that were once used.
        names.pop()
    return names


def _read_header(line: list[str]) -> list[str]:
    header = _names(line)
    missing = [name for name in REQUIRED if name not in header]
    repeated = sorted({name for name in header if header.count(name) > 1})
    identifying = [name for name in header if "".join(filter(str.isalnum, name.lower())) in _IDENTIFYING]
    if missing:
        raise TableError(f"has no column {' and no column '.join(missing)}; its first line must be path,patient,...")
    if "" in header:
        raise TableError(f"has a column without a name (number {header.index('') + 1}); name it")
    if repeated:
        raise TableError(f"has column {repeated[0]!r} twice; rename one")
    if identifying:
        raise TableError(f"column {identifying[0]} may reveal who a patient is and would enter reports; remove it")
    return header


def _add_row(table: PatientTable, number: int, header: list[str], line: list[str], missing: _Values) -> None:
    try:
        path, row = _read_row(number, header, line, missing)
        first = table.rows.setdefault(path, row)
        if (first.patient, first.attributes) != (row.patient, row.attributes):
            kind = "another patient" if first.patient != row.patient else "other attributes"
            raise TableError(f"column path repeats row {first.number} with {kind}; remove the wrong row")
    except TableError as error:
        table.note(number, str(error))


def _read_row(number: int, header: list[str], line: list[str], missing: _Values) -> tuple[str, PatientRow]:
    """The row, and its path for comparing."""
    num_cells = len(line)
    while num_cells > len(header) and not line[num_cells - 1].strip():
        num_cells -= 1
    if num_cells != len(header):
        message = f"has {num_cells} cells where the first line has {len(header)}; quote cells that contain commas"
        raise TableError(message)
    values = {name: cell.strip() for name, cell in zip(header, line, strict=False)}
    path, written = values.pop("path"), values.pop("patient")
    key = _comparable(path)
    patient = normalise(written)
    if not patient:
        raise TableError("column patient is empty; give every file its patient")
    if is_missing(patient):
        raise TableError(f"column patient is {patient!r}, which means that it is missing; give every file its patient")
    attributes = {name: value for name, cell in values.items() if (value := normalise(cell)) not in missing[name]}
    return key, PatientRow(number, path, patient, written, attributes)


def _comparable(path: str) -> str:
    key = composed(path)
    if not path or key.startswith("/") or ".." in key.split("/") or "\0" in path:
        raise TableError("column path leaves the data set or is empty; give a path relative to its root")
    return key
