"""Patients of DICOM files: pseudonyms, and one value of each attribute for all of a patient's cases. Torch-free."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from medloop.dicom.attributes import ATTRIBUTES
from medloop.dicom.instances import DicomFile
from medloop.documents.names import is_missing, is_placeholder
from medloop.imaging.identity import patient_pseudonym, pseudonym
from medloop.importing.cases import ImportCase

_DIGITS = 8


class PatientNames:
    """Pseudonyms of the patients, with the user's key: repeatable, and the same in each import with the key.

    Args:
        key: Of the pseudonyms.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._nameless: set[str] = set()

    def patient(self, instance: DicomFile) -> str:
        """The pseudonym of a file's patient; without a PatientID each study is a patient."""
        name = instance.patient
        if name and not is_missing(name) and not is_placeholder(name):
            return patient_pseudonym(self._key, name)
        self._nameless.add(instance.study or instance.series)
        return pseudonym(self._key, f"study:{instance.study or instance.series}")

    def item(self, uid: str) -> str:
        """A short pseudonym of a series or an image, which distinguishes a patient's."""
        return pseudonym(self._key, f"uid:{uid}")[1 : 1 + _DIGITS]

    def warnings(self) -> Iterator[str]:
        """Warn of studies without a patient."""
        if self._nameless:
            yield (
                f"{len(self._nameless)} studies have no PatientID: each counts as a patient, so that leakage between "
                "studies of one patient isn't noticed; correct patients.csv if some are"
            )


def merge_attributes(cases: Sequence[ImportCase]) -> tuple[list[ImportCase], list[str]]:
    """Give all cases of a patient one value of each attribute, as patients.csv requires.

    Returns:
        The cases, and warnings of attributes that differ within patients.
    """
    values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for case in cases:
        for name, value in case.attributes.items():
            values[case.patient or ""][name].add(value)
    merged = {patient: _merge(columns) for patient, columns in values.items()}
    differing: dict[str, int] = defaultdict(int)
    for columns in values.values():
        for name, several in columns.items():
            differing[name] += len(several) > 1 and not _merge_values(name, several)
    warnings = [
        f"{name} differs within {num} patients and is left empty for them" for name, num in differing.items() if num
    ]
    return [replace(case, attributes=merged.get(case.patient or "", {})) for case in cases], warnings


def _merge(columns: Mapping[str, set[str]]) -> dict[str, str]:
    merged = {
        name: next(iter(values)) if len(values) == 1 else _merge_values(name, values)
        for name, values in columns.items()
    }
    return {name: value for name, value in merged.items() if value}


def _merge_values(name: str, values: set[str]) -> str:
    """The value of a patient with several; "" if it isn't known, as of a table's own columns."""
    return ATTRIBUTES[name].merge(sorted(values)) if name in ATTRIBUTES else ""
