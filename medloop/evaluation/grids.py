"""Volumes of test cases on their own grids."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from medloop.errors import DataError
from medloop.evaluation.cases import IMAGE_FILE, LABEL_FILE, HeldOut
from medloop.imaging.nifti import read_nifti

_TOLERANCE = 1e-3
"""Largest difference of two affines' entries that still counts as the same grid; headers store float32."""


@dataclass(frozen=True)
class Volume:
    """Voxels [X, Y, Z] and the affine [4, 4] of their grid."""

    voxels: NDArray[Any]
    affine: NDArray[np.float64]


@dataclass(frozen=True)
class Packed:
    """A label map, compressed: a test set's predictions stay in memory until it is known which are drawn."""

    data: bytes
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def pack(cls, labels: NDArray[Any]) -> Packed:
        """Compress."""
        return cls(zlib.compress(np.ascontiguousarray(labels).tobytes(), level=1), labels.shape, labels.dtype.str)

    def unpack(self) -> NDArray[Any]:
        """Decompress."""
        return np.frombuffer(zlib.decompress(self.data), dtype=self.dtype).reshape(self.shape)


def is_millimetres(case: HeldOut) -> bool:
    """Whether the label's header says that its lengths are millimetres.

    Raises:
        DataError: The file can't be read.
    """
    return bool(_open(case, LABEL_FILE).header.get_xyzt_units()[0] == "mm")


def read_truth(case: HeldOut, num_classes: int) -> Volume:
    """A case's label map, as it is on disk.

    Raises:
        DataError: A file can't be read, image and label are on different grids, or a label value names no class.
    """
    image, label = _open(case, IMAGE_FILE), read(case, LABEL_FILE)
    shape = tuple(image.shape[:3])
    if shape != label.voxels.shape:
        raise DataError(
            f"test/{case.name}: {IMAGE_FILE} has {_size(shape)} voxels and {LABEL_FILE} {_size(label.voxels.shape)}; "
            "give both on one grid"
        )
    if not np.allclose(image.affine, label.affine, atol=_TOLERANCE):
        raise DataError(f"test/{case.name}: image and label have different affines; give both on one grid")
    values = np.unique(label.voxels)
    strange = values[~np.isin(values, range(num_classes))]
    if len(strange):
        raise DataError(
            f"test/{case.name}/{LABEL_FILE}: value {strange[0]:g} is no class of the model (0 to {num_classes - 1}); "
            "mend the label or train with it"
        )
    return Volume(label.voxels.astype(np.uint8 if num_classes <= 256 else np.uint16), label.affine)


def read(case: HeldOut, name: str) -> Volume:
    """One of a case's files.

    Raises:
        DataError: It can't be read; the message names it.
    """
    _require(case, name)
    try:
        volume = read_nifti(case.path / name)
    except DataError as error:
        raise DataError(f"test/{case.name}/{error}") from None
    return Volume(volume.voxels, volume.affine)


def _open(case: HeldOut, name: str) -> Any:
    """A file's header, without its voxels."""
    _require(case, name)
    try:
        return nib.load(case.path / name)
    except (ImageFileError, HeaderDataError, OSError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"test/{case.name}/{name}: is no readable NIfTI ({error}); replace the file") from None


def _require(case: HeldOut, name: str) -> None:
    if not (case.path / name).is_file():
        raise DataError(f"test/{case.name}: {name} is missing; give the split step's own output")


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(str(length) for length in shape)
