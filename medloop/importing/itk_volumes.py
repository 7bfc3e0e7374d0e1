"""MetaImage (.mha, .mhd) and NRRD (.nrrd, .nhdr), read by ITK after their headers are checked. Torch-free.

Geometry: ITK's origin, spacing and direction are in LPS; the affine is in RAS, as NIfTI's.
"""

from __future__ import annotations

import math
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from medloop.errors import UserError
from medloop.imaging.files import DAMAGED, FileError, TooLargeError, Volume
from medloop.imaging.nifti import MAX_DEFLATE_RATIO
from medloop.imaging.nifti_header import MAX_VOXELS, TYPES

META_ENDS, NRRD_ENDS = (".mha", ".mhd"), (".nrrd", ".nhdr")
ITK_ENDS = (*META_ENDS, *NRRD_ENDS)
MAX_HEADER = 2**20
"""Bytes of a header; names of many segments are in Slicer's."""
_FLAGS = re.IGNORECASE | re.MULTILINE
_META_DATA = re.compile(rb"^\s*ElementDataFile\s*[:=]\s*(.*?)\s*$", _FLAGS)
_NRRD_DATA = re.compile(rb"^\s*data ?file\s*:\s*(.*?)\s*$", _FLAGS)
_SAME_FILE = ("LOCAL", "")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_VALUE = re.compile(r"\d{1,9}", re.ASCII)
_SEGMENT = re.compile(r"Segment(\d+)_(Name|LabelValue)")


@cache
def load_itk() -> Any:
    """Import SimpleITK, quiet.

    Raises:
        UserError: It is not installed.
    """
    try:
        itk = import_module("SimpleITK")
    except ImportError:
        raise UserError("MHA and NRRD: package SimpleITK is not installed; run pip install 'medloop[itk]'") from None
    itk.ProcessObject.GlobalWarningDisplayOff()
    return itk


def read_itk(path: Path, channel: int | None = None) -> Volume:
    """Read a volume, in its own type of numbers.

    Args:
        path: The file.
        channel: Of an image with several.

    Raises:
        FileError: It is no 3D volume of finite numbers, needs another file outside of its folder, or is too large.
    """
    reader = _open(path)
    voxels, affine = _read(path, reader)
    if voxels.ndim == 4:
        if channel is None or channel >= voxels.shape[3]:
            raise FileError(path, f"has {voxels.shape[3]} channels; choose one with --channel NUMBER")
        voxels = voxels[..., channel]
    if voxels.dtype.name not in TYPES:
        raise FileError(path, f"its voxels are no plain numbers ({voxels.dtype}); save them as float32")
    return Volume(np.asfortranarray(voxels.transpose(2, 1, 0)), affine, "mm")


def count_channels(path: Path) -> int:
    """The number of an image's channels, from its header.

    Raises:
        FileError: See `read_itk`.
    """
    return int(_open(path).GetNumberOfComponents())


def segment_names(path: Path) -> dict[int, str]:
    """Names by label value of a segmentation of 3D Slicer (.seg.nrrd); nothing if the header has none.

    Raises:
        FileError: See `read_itk`.
    """
    reader = _open(path)
    fields: dict[str, dict[str, str]] = {}
    for key in reader.GetMetaDataKeys():
        if match := _SEGMENT.fullmatch(key):
            fields.setdefault(match[1], {})[match[2]] = reader.GetMetaData(key)
    return {
        int(field["LabelValue"]): field["Name"]
        for field in fields.values()
        if field.get("Name") and _VALUE.fullmatch(field.get("LabelValue", ""))
    }


def _open(path: Path) -> Any:
    """A reader that has read the header, which is within limits."""
    _check_data_file(path)
    itk = load_itk()
    reader = itk.ImageFileReader()
    try:
        reader.SetImageIO("MetaImageIO" if path.name.lower().endswith(META_ENDS) else "NrrdImageIO")
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
    except RuntimeError:
        raise FileError(path, DAMAGED) from None
    size = reader.GetSize()
    if len(size) != 3:
        raise FileError(path, f"has {len(size)} dimensions; give one 3D volume")
    count = math.prod(size) * reader.GetNumberOfComponents()
    if math.prod(size) > MAX_VOXELS or count > 8 * MAX_VOXELS:
        raise TooLargeError(path, f"its header specifies more than {MAX_VOXELS} voxels; save it again or remove it")
    if count > MAX_DEFLATE_RATIO * _stored_bytes(path):
        raise FileError(path, f"is truncated or damaged: its header specifies {count} voxels; copy it again")
    return reader


def _read(path: Path, reader: Any) -> tuple[Any, Any]:
    """Voxels [Z, Y, X] or [Z, Y, X, channel], and the affine."""
    try:
        image = reader.Execute()
        voxels = load_itk().GetArrayFromImage(image)
    except (RuntimeError, MemoryError):
        raise FileError(path, DAMAGED) from None
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < np.finfo(np.float32).tiny:
        raise FileError(path, "has no usable geometry (spacing, direction, origin); save the volume again")
    return voxels, _LPS_TO_RAS @ affine


def _data_files(path: Path) -> list[str]:
    """The files that a header names for its voxels; none if they are in the same file."""
    try:
        with path.open("rb") as file:
            start = file.read(MAX_HEADER)
    except OSError as error:
        raise FileError(path, f"can't be read ({error.strerror}); check its permissions") from None
    is_meta = path.name.lower().endswith(META_ENDS)
    if not is_meta:
        start = re.split(rb"\r?\n\r?\n", start, maxsplit=1)[0]
    names = [name.decode("utf-8", "replace") for name in (_META_DATA if is_meta else _NRRD_DATA).findall(start)]
    if not names and is_meta:
        raise FileError(path, "is no MetaImage, despite its name (ElementDataFile is missing); replace or remove it")
    if not is_meta and not start.startswith(b"NRRD"):
        raise FileError(path, "is no NRRD file, despite its name; replace or remove it")
    # Programs differ in the line that counts if there are several: each must be safe.
    return [name for name in names if name.upper() not in _SAME_FILE]


def _check_data_file(path: Path) -> None:
    """Refuse a header whose voxels are elsewhere than in the same folder."""
    for name in _data_files(path):
        data = path.parent / name
        if "/" in name or "\\" in name or "%" in name or name.upper().startswith("LIST") or data.is_symlink():
            raise FileError(path, "takes its voxels from other files than one next to it; save the volume as one file")
        if not data.is_file():
            raise FileError(
                path, "its voxels' file (ElementDataFile, data file) is missing; copy it next to the header"
            )


def _stored_bytes(path: Path) -> int:
    return max(file.stat().st_size for file in (path, *(path.parent / name for name in _data_files(path))))
