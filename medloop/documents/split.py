"""split.json: the split of each patient, by pseudonym.

Written by the split job, read by training and evaluation. Torch-free.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from medloop.documents.file_names import SPLIT_FILE
from medloop.documents.reading import parse_record, read_record

VERSION = 1
_FIX = "run the split step again"
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Task = Literal["classification", "segmentation"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Case(_Record):
    """One image (classification) or one subject's volume with its label (segmentation)."""

    path: str
    """Relative to the split's own folder: `<class>/<file>.png`, or the subject's folder. Contains pseudonyms only."""
    split: Split
    classes: list[str]
    """The image's class, or the names or values of the labels that occur in the volume."""


class Patient(_Record):
    """One patient, known by a keyed hash alone."""

    stratum: str
    attributes: dict[str, str] = {}
    """The further columns of patients.csv: sex, age, site, scanner."""
    cases: list[Case]


class SplitLeakage(_Record):
    """Patients on both sides of a split."""

    status: Literal["none", "found", "unknown"]
    num_patients: int | None
    """Patients in more than one split; None if patients are not known."""
    note: str


class Quarantined(_Record):
    """A case that was left out, with the reason."""

    path: str
    reason: str


class SplitCounts(_Record):
    """Counts of one split."""

    num_patients: int
    num_cases: int
    classes: dict[str, int]


class SplitRecord(_Record):
    """The whole of split.json."""

    version: int = VERSION
    task: Task
    seed: int
    classes: list[str]
    """Classification: class names, sorted. Segmentation: class name by label value, the background first."""
    presplit: bool
    identifiers: Literal["patients.csv", "none"]
    patients: dict[str, Patient]
    counts: dict[Split, SplitCounts]
    leakage: SplitLeakage
    quarantined: list[Quarantined] = Field(default_factory=list)
    data_digest: str
    """SHA-256 over the sorted (class, content digests) of the cases that were split: no name or key changes it."""

    def pseudonyms(self, split: Split) -> list[str]:
        """Patients with at least one case in this split, sorted."""
        return sorted(p for p, patient in self.patients.items() if any(c.split == split for c in patient.cases))

    def patient_of(self, split: Split) -> dict[str, str]:
        """Case path (relative to the split's folder) to pseudonym."""
        return {c.path: name for name, p in self.patients.items() for c in p.cases if c.split == split}


def read_split_record(path: Path) -> SplitRecord:
    """Read split.json.

    Raises:
        DataError: The file is absent, malformed, or of a newer version than this code knows.
    """
    return read_record(SplitRecord, path, version=VERSION, fix=_FIX)


def parse_split_record(content: bytes, name: str = SPLIT_FILE) -> SplitRecord:
    """Read split.json's content, which messages call `name`; raises as `read_split_record`."""
    return parse_record(SplitRecord, content, name=name, version=VERSION, fix=_FIX)
