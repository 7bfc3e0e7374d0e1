"""NumPy's `.npz` files of any source: read within limits, and nothing unpickled. Torch-free."""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from medloop.imaging.files import DAMAGED, FileError

MEDMNIST_ARRAYS = tuple(f"{split}_{kind}" for split in ("train", "val", "test") for kind in ("images", "labels"))
"""Arrays of a MedMNIST file (https://github.com/MedMNIST/MedMNIST, medmnist/dataset.py)."""
MAX_RATIO = 200
"""Unpacked bytes by packed ones: images compress by 2 to 20."""
ALWAYS = 1 << 30
"""Unpacked bytes that are no bomb at any ratio."""
IN_MEMORY = 1 << 28
"""Bytes of an array from which it is unpacked into a temporary file."""
_MAX_HEADER = 4096
_CHUNK = 1 << 24
_PLAIN = "biuf"


@dataclass(frozen=True)
class ArrayHeader:
    """Shape and type of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool

    @property
    def num_bytes(self) -> int:
        """Size of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def list_arrays(path: Path) -> dict[str, ArrayHeader | None]:
    """The arrays of a file by name, with their headers; None for one that contains no plain numbers.

    Nothing if it is no `.npz` file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return {name.removesuffix(".npy"): _header_or_none(archive, name) for name in names}
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return {}


def read_array(path: Path, name: str) -> NDArray[Any]:
    """Read an array: into memory, or into a temporary file that is mapped.

    Raises:
        FileError: It isn't there, is damaged, contains Python objects, or expands too much.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            header = _read_header(file)
            if header is None:
                raise FileError(
                    path, f"array {name} contains no plain numbers (objects are never loaded); save numbers"
                )
            packed = archive.getinfo(f"{name}.npy").compress_size
            if header.num_bytes > max(ALWAYS, MAX_RATIO * packed):
                raise FileError(path, f"array {name} expands to more than {MAX_RATIO} times its size; save it again")
            return _read_values(path, name, file, header)
    except KeyError:
        raise FileError(path, f"has no array {name}; give a file of MedMNIST") from None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError):
        raise FileError(path, f"array {name} {DAMAGED}") from None


def _header_or_none(archive: zipfile.ZipFile, name: str) -> ArrayHeader | None:
    try:
        with archive.open(name) as file:
            return _read_header(file)
    except Exception:  # a hostile header makes NumPy's parser raise nearly anything
        return None


def _read_header(file: IO[bytes]) -> ArrayHeader | None:
    """The header of an array; None if it contains no plain numbers.

    Raises:
        ValueError: It is none.
    """
    try:
        version = npy_format.read_magic(file)
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, is_fortran, dtype = read(file, max_header_size=_MAX_HEADER)
    except Exception as error:  # as above
        raise ValueError(str(error)) from None
    if dtype.hasobject or dtype.kind not in _PLAIN or min(shape, default=1) < 0:
        return None
    return ArrayHeader(shape, dtype, is_fortran)


def _read_values(path: Path, name: str, file: IO[bytes], header: ArrayHeader) -> NDArray[Any]:
    if header.num_bytes <= IN_MEMORY:
        content = file.read(header.num_bytes)
        values = np.frombuffer(content, header.dtype) if len(content) == header.num_bytes else None
    else:
        values = _unpack(path, file, header)
    if values is None:
        raise FileError(path, f"array {name} {DAMAGED}")
    return values.reshape(header.shape, order="F" if header.is_fortran else "C")


def _unpack(path: Path, file: IO[bytes], header: ArrayHeader) -> NDArray[Any] | None:
    """Map an array from a temporary file without a name, which vanishes with the process; None if it is truncated."""
    if header.num_bytes > (free := shutil.disk_usage(tempfile.gettempdir()).free):
        raise FileError(path, f"needs {header.num_bytes >> 20} MiB in {tempfile.gettempdir()}, which has {free >> 20}")
    with tempfile.TemporaryFile() as target:
        rest = header.num_bytes
        while rest and (chunk := file.read(min(rest, _CHUNK))):
            target.write(chunk)
            rest -= len(chunk)
        target.flush()
        return None if rest else np.memmap(target, header.dtype, "r")
