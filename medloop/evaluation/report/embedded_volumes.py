"""Volumes within the page, for the viewer: NIfTI files of the voxels that may be shown, without other content."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medloop.evaluation.report.cropped_volume import CroppedVolume
from medloop.evaluation.report.figure_style import PREDICTION, TRUTH, colour

BUDGET = 14 * 2**20
"""Maximum bytes of all volumes in the page."""
PER_CASE = 5 * 2**20
"""Maximum bytes of one case; a larger one is embedded at a lower resolution."""
COARSEST = 6
"""The lowest resolution: every sixth voxel along each axis. A case that is still too large is left out."""
OUTSIDES = re.compile(r"\b(?:face|facial|skin|scalp)\b|^(?:head|body)$", re.IGNORECASE)
"""Names of structures whose own surface is a face: volumes that hold them are not embedded."""


@dataclass(frozen=True)
class Embedded:
    """A case's image, truth and prediction as base64 of .nii.gz."""

    title: str
    shape: tuple[int, ...]
    step: int
    """1: the file's own resolution; 2: every second voxel along each axis."""
    files: dict[str, str]

    @property
    def size(self) -> int:
        """Bytes in the page."""
        return sum(len(text) for text in self.files.values())


def embed(case: CroppedVolume, title: str, limit: int = PER_CASE) -> Embedded | None:
    """Make files for the viewer at the highest resolution within the limit; None if none fits."""
    for step in range(1, COARSEST + 1):
        embedded = _embed(case, title, step)
        if embedded.size <= limit:
            return embedded
    return None


def shows_a_face(classes: Sequence[str]) -> bool:
    """Return true if one of the structures is, by its name, the outside of a head."""
    return any(OUTSIDES.search(name.replace("_", " ").replace("-", " ")) for name in classes)


def legend(classes: Sequence[str]) -> list[dict[str, str]]:
    """Name and colours of each structure, as the viewer draws truth and prediction."""
    if len(classes) == 1:
        return [{"name": classes[0], "truth": TRUTH, "prediction": PREDICTION}]
    return [{"name": name, "truth": colour(k), "prediction": colour(k)} for k, name in enumerate(classes)]


def _embed(case: CroppedVolume, title: str, step: int) -> Embedded:
    maps = {"image": case.image, "truth": case.truth, "prediction": case.prediction}
    coarse = {name: np.ascontiguousarray(voxels[::step, ::step, ::step]) for name, voxels in maps.items()}
    files = {name: _file(voxels, case, step) for name, voxels in coarse.items()}
    return Embedded(title, coarse["image"].shape, step, files)


def _file(voxels: NDArray[np.generic], case: CroppedVolume, step: int) -> str:
    """Write a NIfTI file with a new header: only sizes, no text, no position in the scanner."""
    volume = nib.Nifti1Image(voxels, np.diag([*(size * step for size in case.spacing), 1.0]))
    volume.header.set_xyzt_units("mm" if case.millimetres else "unknown")
    return base64.b64encode(gzip.compress(volume.to_bytes(), compresslevel=9, mtime=0)).decode("ascii")
