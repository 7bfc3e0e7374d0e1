"""Patients and their attributes from tables of a source: patients.csv, participants.tsv, labels.csv. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medloop.dicom.attributes import DEFAULT_ATTRIBUTES, compute_attributes
from medloop.documents.names import is_missing, normalise
from medloop.errors import DataError, SettingError
from medloop.imaging.patients import IDENTIFYING, PATIENTS_FILE, PatientTable, read_patients

_AGE_DIGITS = 3
_SYNONYMS = {"sex": ("sex", "gender"), "age_group": ("age_group", "age"), "scanner": ("scanner", "manufacturer")}


@dataclass(frozen=True)
class AttributeColumns:
    """The columns of a table that become attributes.

    Attributes:
        columns: Column of the table by attribute.
        ignored: Columns that are not read.
    """

    columns: Mapping[str, str]
    ignored: tuple[str, ...]

    def values(self, cells: Mapping[str, str]) -> dict[str, str]:
        """The attributes of a row; a missing one is left out."""
        values = {name: normalise(cells[column]) for name, column in self.columns.items()}
        age = self.columns.get("age_group", "")
        if "age_group" in values and age.casefold() == "age":
            values["age_group"] = _age_group(values["age_group"])
        return {name: value for name, value in values.items() if value and not is_missing(value)}

    def describe_ignored(self, table: str) -> Iterator[str]:
        """State the columns that are not read."""
        if self.ignored:
            yield f"{table} columns {', '.join(self.ignored)} are not imported; --attributes A,B names those that are"


def choose_columns(heading: Sequence[str], taken: Sequence[str], attributes: Sequence[str]) -> AttributeColumns:
    """Find the columns of the user's attributes.

    Args:
        heading: Names of the table's columns.
        taken: Columns with another purpose.
        attributes: The user's list; of the default list, those that are there.

    Raises:
        SettingError: An attribute has no column, or would reveal a name.
    """
    plain = {name.casefold(): name for name in heading if name not in taken}
    columns: dict[str, str] = {}
    for attribute in attributes:
        key = attribute.casefold()
        if "".join(filter(str.isalnum, key)) in {name.replace("_", "") for name in IDENTIFYING}:
            raise SettingError(f"--attributes {attribute}: may reveal who a patient is; omit it")
        column = next((plain[name] for name in _SYNONYMS.get(key, (key,)) if name in plain), None)
        if column is not None:
            columns[attribute] = column
        elif tuple(attributes) != DEFAULT_ATTRIBUTES:
            raise SettingError(f"--attributes {attribute}: is no column; the table has {', '.join(plain.values())}")
    return AttributeColumns(columns, tuple(name for name in plain.values() if name not in columns.values()))


def _age_group(text: str) -> str:
    """The group of an age in years: ten years, and one group of all from 90."""
    number = text.rstrip("+").removesuffix("Y").strip().partition(".")[0]
    if not number.isdecimal() or len(number) > _AGE_DIGITS:
        return ""
    return compute_attributes(("age_group",), {"PatientAge": f"{int(number):03d}Y"}).get("age_group", "")


@dataclass(frozen=True)
class SourcePatients:
    """A source's own patients.csv; without one every patient is unknown."""

    table: PatientTable

    @property
    def is_known(self) -> bool:
        """True if there is a patients.csv."""
        return self.table.present

    def find(self, path: str) -> tuple[str | None, Mapping[str, str]]:
        """Patient and attributes of a source file."""
        row = self.table.find(path)
        return (row.patient, row.attributes) if row else (None, {})


NO_ROW = f"has no row in {PATIENTS_FILE}; add one"


def read_source_patients(root: Path) -> SourcePatients:
    """Read a source's patients.csv.

    Raises:
        DataError: It can't be used.
    """
    table = read_patients(root)
    if table.problems:
        raise DataError(table.problems[0].line)
    return SourcePatients(table)
