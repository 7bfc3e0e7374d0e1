"""split.json: the split of each patient, by pseudonym.

Written by the split job, read by training and evaluation. Torch-free.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from medloop.documents.file_names import SPLIT_FILE
from medloop.documents.image_statistics import ImageStatistics
from medloop.documents.leakage import Leakage
from medloop.documents.reading import DocumentFile, Record

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Task = Literal["classification", "segmentation"]
_NO_PATIENTS = '"patients":{}'
"""The empty field as JSON; a text can't contain it, as its quotation marks are escaped there."""


@dataclass(slots=True, config=Record.model_config)
class Case:
    """One image (classification) or one subject's volume with its label (segmentation)."""

    path: str
    """Relative to the split's own folder: `<class>/<file>.png`, or the subject's folder. Contains pseudonyms only."""
    split: Split
    classes: list[str]
    """The image's class, or the names or values of the labels that occur in the volume."""


@dataclass(slots=True, config=Record.model_config, kw_only=True)
class Patient:
    """One patient, known by a keyed hash alone."""

    stratum: str
    attributes: dict[str, str] = Field(default_factory=dict)
    """The further columns of patients.csv: sex, age, site, scanner."""
    cases: list[Case]
    earlier: list[str] = Field(default_factory=list)
    """Pseudonyms that versions before 2 made of the identifier as it is written, where it isn't in its normal form."""


class Quarantined(Record):
    """A case that was left out, with the reason."""

    path: str
    reason: str


class SplitCounts(Record):
    """Counts of one split."""

    num_patients: int
    num_cases: int
    classes: dict[str, int]


class SplitRecord(DocumentFile):
    """The whole of split.json."""

    FILE = SPLIT_FILE
    FIX = "run the split step again"

    version: int = 2
    """2 added `warnings`, `test_digest` and patients' `earlier` pseudonyms, and `images`. Older files are read as
    they are."""
    task: Task
    seed: int
    classes: list[str]
    """Classification: class names, sorted. Segmentation: class name by label value, the background first."""
    presplit: bool
    identifiers: Literal["patients.csv", "none"]
    patients: dict[str, Patient]
    counts: dict[Split, SplitCounts]
    leakage: Leakage
    warnings: list[str] = Field(default_factory=list)
    """Doubts about the identifiers in patients.csv: rows, no names."""
    quarantined: list[Quarantined] = Field(default_factory=list)
    test_digest: str = ""
    """SHA-256 over the sorted content digests of the test images: the test set under any names and with any labels."""
    images: ImageStatistics | None = None
    """Classification: statistics of the training images."""
    data_digest: str
    """SHA-256 over the sorted (class, content digests) of the cases that were split: no name or key changes it."""

    def write(self, folder: Path) -> None:
        """Write split.json into a folder, one patient a line: the text of a million patients is never in memory."""
        before, after = self.model_copy(update={"patients": {}}).model_dump_json().split(_NO_PATIENTS)
        dump = TypeAdapter(Patient).dump_json
        with (folder / SPLIT_FILE).open("wb") as file:
            file.write(f'{before}"patients":{{'.encode())
            for number, (name, patient) in enumerate(self.patients.items()):
                file.write(b"%s%s:%s" % (b",\n" if number else b"\n", json.dumps(name).encode(), dump(patient)))
            file.write(f"}}{after}\n".encode())

    def pseudonyms(self, split: Split) -> list[str]:
        """Patients with at least one case in this split, sorted."""
        return sorted(p for p, patient in self.patients.items() if any(c.split == split for c in patient.cases))

    def has_test_set_of(self, other: SplitRecord) -> bool:
        """True if both test on the same images with the same labels, of the same data, under any names.

        The digest of the data alone says too little: it is one of all cases, for all ways to split them. A record of
        version 1 has no digest of its test set: the cases' patients and paths are compared.
        """
        if self.test_digest and other.test_digest:
            return (self.data_digest, self.test_digest) == (other.data_digest, other.test_digest)
        return self.data_digest == other.data_digest and self.patient_of("test") == other.patient_of("test")

    def among(self, names: Collection[str]) -> set[str]:
        """Patients whose pseudonym, or an earlier one, is among the names."""
        return {name for name, patient in self.patients.items() if not {name, *patient.earlier}.isdisjoint(names)}

    def patients_and_splits(self) -> list[tuple[str, Split]]:
        """Pseudonym and split of each case: what leakage is found from."""
        return [(name, case.split) for name, patient in self.patients.items() for case in patient.cases]

    def patient_of(self, split: Split) -> dict[str, str]:
        """Case path (relative to the split's folder) to pseudonym."""
        return {c.path: name for name, p in self.patients.items() for c in p.cases if c.split == split}
