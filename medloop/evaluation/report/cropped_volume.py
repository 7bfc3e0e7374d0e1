"""A test case as the page may show it: cropped to the structures, and blank elsewhere.

Voxels farther from truth and prediction than MARGIN are set to 0, in slices and in volumes, so that no face can be
reconstructed (docs/decisions/0093-volumes-on-a-page.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from medloop.evaluation.cases import HeldOut
from medloop.evaluation.label_maps import millimetres_per_length, read_case

MARGIN = 10.0
"""Distance around truth and prediction up to which the image is shown: mm, or voxels if the unit is unknown."""
WINDOW = (1.0, 99.0)
"""Percentiles of the shown voxels that become black and white."""
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class CroppedVolume:
    """Image, truth and prediction on one grid [X, Y, Z] whose axes run to right, anterior and superior."""

    image: NDArray[np.uint8]
    """0 is blank."""
    truth: NDArray[Any]
    """Label values, in as few bytes as hold them; so is `prediction`."""
    prediction: NDArray[Any]
    spacing: Triple
    """Voxel size, in mm where `millimetres`."""
    millimetres: bool


def crop_case(case: HeldOut, prediction: NDArray[Any]) -> CroppedVolume:
    """Read a case again and keep the voxels that may be shown.

    Args:
        case: A subject's folder.
        prediction: [X, Y, Z] label values on the image's own grid.

    Raises:
        DataError: A file can't be used.
    """
    subject, is_sized = read_case(case), millimetres_per_length(case) is not None
    orientation = io_orientation(subject.image.affine)
    maps = (subject.image.voxels, subject.label.voxels, prediction)
    image, truth, predicted = (apply_orientation(voxels, orientation) for voxels in maps)
    spacing = _triple(voxel_sizes(subject.image.affine @ inv_ornt_aff(orientation, subject.image.voxels.shape)))
    distances = spacing if is_sized else (1.0, 1.0, 1.0)
    structures = (truth > 0) | (predicted > 0)
    box = _box(structures, distances)
    near = _near(structures[box], distances)
    return CroppedVolume(_grey(image[box], near), _labels(truth[box]), _labels(predicted[box]), spacing, is_sized)


def _triple(sizes: Any) -> Triple:
    x, y, z = (float(size) for size in sizes)
    return x, y, z


def _box(structures: NDArray[np.bool_], distances: Triple) -> tuple[slice, ...]:
    """Return the structures' box with MARGIN around it; the whole grid without structures."""
    box = []
    for axis, distance in enumerate(distances):
        occupied = np.flatnonzero(structures.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = int(np.ceil(MARGIN / distance))
        low, high = (int(occupied[0]), int(occupied[-1])) if len(occupied) else (0, structures.shape[axis] - 1)
        box.append(slice(max(0, low - margin), min(structures.shape[axis], high + margin + 1)))
    return tuple(box)


def _near(structures: NDArray[np.bool_], distances: Triple) -> NDArray[np.bool_]:
    if not structures.any():
        return np.zeros(structures.shape, dtype=bool)
    near: NDArray[np.bool_] = distance_transform_edt(~structures, sampling=distances) <= MARGIN
    return near


def _grey(image: NDArray[Any], near: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Scale the image to 1..255 where it may be shown, 0 elsewhere."""
    values = image[near].astype(np.float64)
    grey: NDArray[np.uint8] = np.zeros(image.shape, dtype=np.uint8)
    if len(values):
        low, high = np.percentile(values, WINDOW)
        scaled = (values - low) / (high - low if high > low else 1.0)
        grey[near] = 1 + np.round(np.clip(scaled, 0, 1) * 254).astype(np.uint8)
    return grey


def _labels(voxels: NDArray[Any]) -> NDArray[Any]:
    return voxels.astype(np.uint8 if voxels.max(initial=0) <= 255 else np.uint16)
