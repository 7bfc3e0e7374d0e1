"""NumPy's `.npz` files of any source: read within limits, and nothing unpickled. Torch-free."""

from __future__ import annotations

import io
import lzma
import math
import shutil
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from medloop.imaging.files import DAMAGED, FileError
from medloop.imaging.npy import MAX_HEADER, read_npy_header

MEDMNIST_ARRAYS = tuple(f"{split}_{kind}" for split in ("train", "val", "test") for kind in ("images", "labels"))
"""Arrays of a MedMNIST file (https://github.com/MedMNIST/MedMNIST, medmnist/dataset.py)."""
MAX_RATIO = 200
"""Unpacked bytes by packed ones: images compress by 2 to 20."""
ALWAYS = 1 << 30
"""Unpacked bytes that are no bomb at any ratio."""
IN_MEMORY = 1 << 28
"""Bytes of an array from which it is unpacked into a temporary file."""
_ERRORS = (
    *(OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, NotImplementedError),
    RuntimeError,
)
"""Errors of zipfile for a damaged, encrypted or hostile file."""
_PREFIX = 12
"""Bytes before the header: magic, version, and the header's length."""
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
    if not path.is_file():
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return {name.removesuffix(".npy"): _header_or_none(archive, name) for name in names}
    except _ERRORS:
        return {}


def read_array(path: Path, name: str, in_memory: int = IN_MEMORY) -> NDArray[Any]:
    """Read an array: into memory, or into a temporary file that is mapped.

    Args:
        path: The file.
        name: The array's.
        in_memory: Bytes of the largest array that is read into memory.

    Raises:
        FileError: It isn't there, is damaged, contains Python objects, or expands too much.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            header, first = _read_header(file)
            if header is None:
                raise FileError(
                    path, f"array {name} contains no plain numbers (objects are never loaded); save numbers"
                )
            packed = archive.getinfo(f"{name}.npy").compress_size
            if header.num_bytes > max(ALWAYS, MAX_RATIO * packed):
                raise FileError(path, f"array {name} expands to more than {MAX_RATIO} times its size; save it again")
            return _read_values(path, name, first, file, header, in_memory)
    except KeyError:
        raise FileError(path, f"has no array {name}; give a file of MedMNIST") from None
    except _ERRORS:
        raise FileError(path, f"array {name} {DAMAGED}") from None


def _header_or_none(archive: zipfile.ZipFile, name: str) -> ArrayHeader | None:
    try:
        with archive.open(name) as file:
            return _read_header(file)[0]
    except _ERRORS:
        return None


def _read_header(file: IO[bytes]) -> tuple[ArrayHeader | None, bytes]:
    """The header of an array, and the first bytes after it; None if it contains no plain numbers.

    No more is unpacked than the longest header: the length that a file states may be anything.

    Raises:
        ValueError: It is none.
    """
    start = io.BytesIO(file.read(_PREFIX + MAX_HEADER))
    shape, is_fortran, dtype = read_npy_header(start)
    if dtype.hasobject or dtype.kind not in _PLAIN or min(shape, default=1) < 0:
        return None, b""
    return ArrayHeader(shape, dtype, is_fortran), start.read()


def _read_values(
    path: Path, name: str, first: bytes, file: IO[bytes], header: ArrayHeader, in_memory: int
) -> NDArray[Any]:
    """The values of an array, of which the first bytes are read already."""
    if header.num_bytes <= in_memory:
        content = first + file.read(max(0, header.num_bytes - len(first)))
        values = np.frombuffer(content, header.dtype) if len(content) == header.num_bytes else None
    else:
        values = _unpack(path, first, file, header)
    if values is None or file.read(1):  # Reading to the end verifies the checksum.
        raise FileError(path, f"array {name} {DAMAGED}")
    return values.reshape(header.shape, order="F" if header.is_fortran else "C")


def _unpack(path: Path, first: bytes, file: IO[bytes], header: ArrayHeader) -> NDArray[Any] | None:
    """Map an array from a temporary file without a name, which vanishes with the process; None if it is truncated."""
    if header.num_bytes > (free := shutil.disk_usage(tempfile.gettempdir()).free):
        raise FileError(path, f"needs {header.num_bytes >> 20} MiB in {tempfile.gettempdir()}, which has {free >> 20}")
    with tempfile.TemporaryFile() as target:
        target.write(first)
        rest = header.num_bytes - len(first)
        while rest and (chunk := file.read(min(rest, _CHUNK))):
            target.write(chunk)
            rest -= len(chunk)
        target.flush()
        return None if rest else np.memmap(target, header.dtype, "r")
