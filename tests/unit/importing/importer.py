"""Imports of made series, and what they wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medloop.documents.import_report import ImportReport
from medloop.importing.cases import ImportOptions
from medloop.importing.run_import import import_data

OPTIONS = ImportOptions(key=b"k" * 32, unlabelled=True)


def run(source: Path, target: Path, **options: Any) -> ImportReport:
    """Import volumes, with or without labels."""
    return import_data(source, target, replace(OPTIONS, **options))


def read_volume(report: ImportReport, target: Path, number: int = 0, stem: str = "img") -> tuple[NDArray[Any], Any]:
    """Voxels and affine of an imported case."""
    image = nib.load(target / report.cases[number].name / f"{stem}.nii.gz")  # type: ignore[attr-defined]
    return np.asanyarray(image.dataobj), image.affine


def reasons(report: ImportReport) -> list[str]:
    """The reasons for which files are left out."""
    return [omission.reason for omission in report.left_out]
