"""Cases of a data set as its folders have them: in columns, as a data set may have a million. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from medloop.documents.split import Split
from medloop.imaging.packed import Columns, Shared, Texts

_NO_ATTRIBUTES: Mapping[str, str] = {}
"""One object for all cases: a million empty dictionaries take 64 MB."""


@dataclass(frozen=True, slots=True)
class RawCase:
    """One image file, or one subject's folder.

    Attributes:
        path: Relative to the root, POSIX; the image's, or the subject folder's.
        group: The class: its folder's name as it looks (classification), or "" (segmentation).
        split: The split whose folder contains it, or None.
        patient: From patients.csv, in its normal form, or None.
        written: The patient as patients.csv has it.
        attributes: The patient's further columns.
    """

    path: str
    group: str
    split: Split | None
    patient: str | None = None
    written: str = ""
    attributes: Mapping[str, str] = field(default_factory=lambda: _NO_ATTRIBUTES)


@dataclass(frozen=True, slots=True)
class CaseFolder:
    """The folder that contains cases.

    Attributes:
        path: Relative to the root, POSIX, with a slash at the end; "" for the root.
        group: As in `RawCase`.
        split: As in `RawCase`.
    """

    path: str
    group: str
    split: Split | None


@dataclass(frozen=True, slots=True)
class CsvPatient:
    """A patient of cases, as patients.csv has it.

    Attributes:
        patient, written, attributes: As in `RawCase`.
    """

    patient: str | None
    written: str
    attributes: Mapping[str, str]


class RawCases(Columns[RawCase]):
    """Cases of which each takes some 30 bytes; a `RawCase` is made when it is read.

    Args:
        cases: The cases.
    """

    def __init__(self, cases: Iterable[RawCase] = ()) -> None:
        self._names, self._folders, self._people = Texts(), Shared[CaseFolder](), Shared[CsvPatient]()
        for case in cases:
            self._append(case)

    def _append(self, case: RawCase) -> None:
        path, slash, name = case.path.rpartition("/")
        folder = CaseFolder(path + slash, case.group, case.split)
        self._names.append(name)
        self._folders.append(folder, folder)
        person = CsvPatient(case.patient, case.written, case.attributes)
        self._people.append(person, (case.patient, case.written, *case.attributes.items()))

    def __len__(self) -> int:
        return len(self._names)

    def row(self, index: int) -> RawCase:
        """See `Columns`."""
        folder, person = self._folders[index], self._people[index]
        path = folder.path + self._names[index]
        return RawCase(path, folder.group, folder.split, person.patient, person.written, person.attributes)

    def path(self, index: int) -> str:
        """The path of a case."""
        return self._folders[index].path + self._names[index]

    @property
    def folders(self) -> Sequence[CaseFolder]:
        """The folders that contain cases, in the order of their first ones."""
        return self._folders.distinct

    @property
    def folder_numbers(self) -> NDArray[np.uint32]:
        """Position of each case's folder among the folders [N]."""
        return self._folders.numbers

    @property
    def people(self) -> Sequence[CsvPatient]:
        """The patients of the cases; one is there several times if rows of patients.csv differ."""
        return self._people.distinct

    @property
    def person_numbers(self) -> NDArray[np.uint32]:
        """Position of each case's patient in `people` [N]."""
        return self._people.numbers

    def rename_groups(self, names: Mapping[str, str]) -> None:
        """Give groups other names.

        Args:
            names: New name by name, of all groups.
        """
        folders = self._folders.distinct
        folders[:] = [replace(folder, group=names[folder.group]) for folder in folders]
