"""Volumes of test cases on their own grids."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from medloop.errors import DataError
from medloop.evaluation.cases import IMAGE_FILE, LABEL_FILE, HeldOut

_TOLERANCE = 1e-3
"""Largest difference of two affines' entries that still counts as the same grid; headers store float32."""


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


def read_truth(case: HeldOut, num_classes: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A case's label map and affine, as they are on disk.

    Raises:
        DataError: A file can't be read, image and label are on different grids, or a label value names no class.
    """
    image, label = _open(case, IMAGE_FILE), _open(case, LABEL_FILE)
    if image.shape != label.shape:
        raise DataError(
            f"test/{case.name}: {IMAGE_FILE} has {_size(image.shape)} voxels and {LABEL_FILE} {_size(label.shape)}; "
            "give both on one grid"
        )
    if not np.allclose(image.affine, label.affine, atol=_TOLERANCE):
        raise DataError(f"test/{case.name}: image and label have different affines; give both on one grid")
    values = _voxels(label, case, LABEL_FILE)
    known = np.isin(values, range(num_classes))
    if not known.all():
        strange = values[~known].flat[0]
        raise DataError(
            f"test/{case.name}/{LABEL_FILE}: value {strange:g} is no class of the model (0 to {num_classes - 1}); "
            "mend the label or train with it"
        )
    return values.astype(np.uint8 if num_classes <= 256 else np.uint16), np.asarray(label.affine, dtype=np.float64)


def read_image(case: HeldOut) -> Any:
    """A case's image as nibabel holds it.

    Raises:
        DataError: The file can't be read.
    """
    return _open(case, IMAGE_FILE)


def _open(case: HeldOut, name: str) -> Any:
    path: Path = case.path / name
    if not path.is_file():
        raise DataError(f"test/{case.name}: {name} is missing; give the split step's own output")
    try:
        return nib.load(path)
    except (ImageFileError, OSError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"test/{case.name}/{name}: is no readable NIfTI ({error}); replace the file") from None


def _voxels(image: Any, case: HeldOut, name: str) -> NDArray[Any]:
    try:
        return np.asanyarray(image.dataobj)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"test/{case.name}/{name}: can't be decoded ({error}); replace the file") from None


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(str(length) for length in shape)
