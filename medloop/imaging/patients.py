"""patients.csv: which file or folder belongs to which patient, and what else is known of the patient. Torch-free."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from medloop.imaging.problems import Problem

PATIENTS_FILE = "patients.csv"
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


class _TableError(Exception):
    """A problem of the table that makes it unusable."""


@dataclass(frozen=True)
class PatientRow:
    """One line: everything under `path` is of `patient`."""

    number: int
    path: str
    patient: str
    attributes: dict[str, str]


@dataclass
class PatientTable:
    """The table, by normalised path, and what is wrong with it."""

    rows: dict[str, PatientRow] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    present: bool = False

    def find(self, path: str) -> PatientRow | None:
        """The row of a case: its own, or that of the nearest folder above it."""
        parts = PurePosixPath(normalise(path)).parts
        candidates = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
        return next((self.rows[name] for name in candidates if name in self.rows), None)

    def check_paths(self, known: Iterable[str]) -> None:
        """Note the rows whose path is none of the known files and folders."""
        names = {normalise(path) for path in known}
        for row in self.rows.values():
            if normalise(row.path) not in names:
                self.note(row.number, "column path names no file or folder of the data set; correct or remove the row")

    def check_attributes(self) -> None:
        """Note patients whose attributes differ from row to row."""
        first: dict[str, PatientRow] = {}
        for row in self.rows.values():
            if first.setdefault(row.patient, row).attributes != row.attributes:
                message = f"other attributes than row {first[row.patient].number} of the same patient; make them agree"
                self.note(row.number, message)

    def note(self, number: int, message: str) -> None:
        """Add the problem of a row."""
        self.problems.append(Problem(PATIENTS_FILE, f"row {number}: {message}"))


def normalise(path: str) -> str:
    """A relative path for comparing: forward slashes, no `./`, composed letters (file systems differ in those)."""
    return unicodedata.normalize("NFC", PurePosixPath(path.strip().replace("\\", "/")).as_posix())


def read_patients(root: Path) -> PatientTable:
    """Read `patients.csv` in a data set's root; an absent file gives an empty table."""
    table = PatientTable()
    path = root / PATIENTS_FILE
    if not path.exists():
        return table
    table.present = True
    try:
        lines = _read_lines(path)
        header = [name.strip() for name in lines[0]] if lines else []
        _check_header(header)
    except _TableError as error:
        table.problems.append(Problem(PATIENTS_FILE, str(error)))
        return table
    for number, line in enumerate(lines[1:], 2):
        if any(cell.strip() for cell in line):
            try:
                row = _read_row(table, number, header, line)
                table.rows[normalise(row.path)] = row
            except _TableError as error:
                table.note(number, str(error))
    table.check_attributes()
    return table


def _read_lines(path: Path) -> list[list[str]]:
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise _TableError(f"is no file below {MAX_BYTES} bytes; save the table again")
        text = path.read_bytes().decode("utf-8-sig")
        return list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except OSError as error:
        raise _TableError(f"can't be read ({error.strerror}); check its permissions") from None
    except UnicodeDecodeError:
        raise _TableError("is not in UTF-8; save it as UTF-8") from None
    except csv.Error as error:
        raise _TableError(f"is no comma-separated table ({error}); save it as CSV") from None


def _check_header(header: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in header]
    repeated = sorted({name for name in header if header.count(name) > 1})
    identifying = [name for name in header if "".join(filter(str.isalnum, name.lower())) in _IDENTIFYING]
    if missing:
        raise _TableError(f"has no column {' and no column '.join(missing)}; its first line must be path,patient,...")
    if "" in header:
        raise _TableError("has a column without a name; name it")
    if repeated:
        raise _TableError(f"has column {repeated[0]!r} twice; rename one")
    if identifying:
        raise _TableError(f"column {identifying[0]} may reveal who a patient is and would enter reports; remove it")


def _read_row(table: PatientTable, number: int, header: list[str], line: list[str]) -> PatientRow:
    if len(line) != len(header):
        message = f"has {len(line)} cells where the first line has {len(header)}; quote cells that contain commas"
        raise _TableError(message)
    values = {name: cell.strip() for name, cell in zip(header, line, strict=True)}
    path, patient = values.pop("path"), values.pop("patient")
    relative = PurePosixPath(path.replace("\\", "/"))
    if not path or relative.is_absolute() or ".." in relative.parts or "\0" in path:
        raise _TableError("column path leaves the data set or is empty; give a path relative to its root")
    if not patient:
        raise _TableError("column patient is empty; give every file its patient")
    if first := table.rows.get(normalise(path)):
        raise _TableError(f"column path repeats row {first.number}; remove one")
    return PatientRow(number, path, patient, {name: value for name, value in values.items() if value})
