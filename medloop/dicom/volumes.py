"""Voxels of a stack of slices, in the units of the modality: HU, SUV, or as rescaled. Torch-free."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.dicom.instances import REPETITION_NAMES, Plane
from medloop.dicom.pixels import decode, read_with_pixels
from medloop.dicom.stacks import Stack
from medloop.dicom.suv import SUV_TAGS, suv_factor
from medloop.imaging.files import FileError, TooLargeError
from medloop.imaging.nifti_header import MAX_VOXELS

_LUT_TAGS = ("ModalityLUTSequence", "RescaleSlope")
_TYPES = (np.uint8, np.int16, np.uint16, np.int32)


def read_voxels(stack: Stack, stored: tuple[float, float], *, suv: bool = False) -> NDArray[Any]:
    """Decode the slices of a stack.

    Args:
        stack: Its slices.
        stored: Smallest and largest value that the pixels can have.
        suv: Scale PET's activity to standardised uptake values by body weight.

    Returns:
        [columns, rows, slices] in Fortran order; the smallest integer type that fits all possible values if each
        rescale is of whole numbers, else float32.

    Raises:
        FileError: A file can't be decoded, or its header and pixels don't fit.
    """
    if int(np.prod(stack.shape, dtype=object)) > MAX_VOXELS:
        raise TooLargeError(stack.planes[0].path, f"the series has more than {MAX_VOXELS} voxels; export a part of it")
    voxels = np.empty(stack.shape, np.float32 if suv else _voxel_type(stack.planes, stored), order="F")
    first_acquisition = min(plane.repetition[REPETITION_NAMES.index("acquisition time")] for plane in stack.planes)
    for path, planes in _by_file(stack.planes).items():
        dataset = read_with_pixels(path, (*_LUT_TAGS, *(SUV_TAGS if suv else ())))
        frames = decode(path, dataset)
        factor = suv_factor(path, dataset, first_acquisition) if suv else 1.0
        if frames.ndim != 3:
            raise FileError(path, "is a colour image in a volume; remove it from the series")
        for index, plane in planes:
            _fill(voxels[:, :, index], _frame(frames, plane), plane, dataset, factor)
    return voxels


def _by_file(planes: Sequence[Plane]) -> dict[Path, list[tuple[int, Plane]]]:
    """Slices with their numbers by file, so that each file is read once."""
    files: dict[Path, list[tuple[int, Plane]]] = defaultdict(list)
    for index, plane in enumerate(planes):
        files[plane.path].append((index, plane))
    return files


def _frame(frames: NDArray[Any], plane: Plane) -> NDArray[Any]:
    if plane.frame >= len(frames) or frames.shape[1:] != plane.shape:
        raise FileError(plane.path, "its pixels don't fit its header (Rows, Columns, NumberOfFrames); export it again")
    return np.asarray(frames[plane.frame])


def _fill(target: NDArray[Any], pixels: NDArray[Any], plane: Plane, dataset: Any, factor: float) -> None:
    """Write a slice's values [columns, rows]."""
    if "ModalityLUTSequence" in dataset and "RescaleSlope" not in dataset and plane.slope == 1:
        target[...] = _look_up(plane.path, pixels, dataset).T
    elif pixels.dtype.kind == "f" and target.dtype.kind != "f":
        raise FileError(plane.path, "has pixels in floating point and BitsStored, which contradict; export it again")
    elif target.dtype.kind == "f":
        target[...] = (pixels.astype(np.float64) * plane.slope + plane.intercept).T * factor
    elif (plane.slope, plane.intercept) == (1, 0):
        target[...] = pixels.T
    else:
        wide = np.int64 if target.dtype.itemsize > 2 else np.int32
        target[...] = (np.multiply(pixels, int(plane.slope), dtype=wide) + int(plane.intercept)).T


def _look_up(path: Path, pixels: NDArray[Any], dataset: Any) -> NDArray[Any]:
    from pydicom.pixels import apply_modality_lut

    try:
        return np.asarray(apply_modality_lut(pixels, dataset))
    except Exception:  # A malformed table fails anywhere in pydicom.
        raise FileError(path, "ModalityLUTSequence can't be applied; export it again") from None


def _voxel_type(planes: Sequence[Plane], stored: tuple[float, float]) -> Any:
    """The smallest integer type for all values that can occur; float32 if a rescale isn't of whole numbers."""
    if not math.isfinite(stored[0]) or not all(
        plane.slope.is_integer() and plane.intercept.is_integer() for plane in planes
    ):
        return np.float32
    ends = [value * plane.slope + plane.intercept for plane in planes for value in stored]
    low, high = min(ends), max(ends)
    fitting = (kind for kind in _TYPES if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return next(fitting, np.float32)
