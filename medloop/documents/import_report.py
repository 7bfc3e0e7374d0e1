"""The record of an import: which cases were written, which files were left out, and why."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from medloop.documents.reading import DocumentFile, Record
from medloop.documents.split import Task


class ImportedCase(Record):
    """A case in the written data set.

    Attributes:
        name: The subject's folder, or the image's path, in the data set.
        is_new: True if this import wrote it; False if an earlier import did, from the same files.
        num_files: Source files that it was made of.
        warnings: What is odd about the source files.
    """

    name: str
    is_new: bool
    num_files: int = Field(ge=0)
    warnings: list[str] = Field(default_factory=list)


class LeftOut(Record):
    """Source files that are in no case.

    Attributes:
        path: The first of the files, relative to the source.
        num_files: How many there are.
        reason: The reason, and the fix.
    """

    path: str
    num_files: int = Field(ge=1)
    reason: str


class ImportReport(DocumentFile):
    """The result of `medloop data import`; it names source files, so that only the data's owner should see it.

    Attributes:
        source: The kind of the source, such as `dicom`.
        evidence: The reason for taking the source as this kind.
        task: The task of the written data set.
        labels: Names by label value, the background first (segmentation).
        num_patients: Number of the cases' patients; 0 if they are unknown.
        cases: The cases, sorted by name.
        left_out: The files that are in no case, in the order of the source.
        warnings: Warnings about the source as a whole.
    """

    FILE: ClassVar[str] = "report.json"
    FIX: ClassVar[str] = "import again"

    version: int = 1
    source: str
    evidence: str
    task: Task
    labels: list[str] = Field(default_factory=list)
    num_patients: int = Field(ge=0, default=0)
    cases: list[ImportedCase] = Field(default_factory=list)
    left_out: list[LeftOut] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
