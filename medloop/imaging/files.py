"""Image files: where readers take them from, what they give, and how one is refused. Torch-free."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medloop.errors import DataError

DAMAGED = "is truncated or damaged; copy it again or remove it"
NOT_REGULAR = "is no regular file; put the file itself there"
_BROKEN_LINK = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
SMALL = 2**20
"""Bytes of a file that is read at once. Opening a larger one again costs nothing next to reading it."""
UNKNOWN = "unknown"
"""The unit of lengths where a file specifies none."""


@dataclass(frozen=True)
class InMemory:
    """A file's content, such as a request's body; readers take it wherever they take a path.

    Attributes:
        name: For error messages, instead of a path's name.
        content: The file's bytes.
        path: The file that it was read from; None if it is on no disk.
    """

    name: str
    content: bytes
    path: Path | None = None


Source = Path | InMemory


@dataclass(frozen=True)
class Volume:
    """One 3D volume.

    Attributes:
        voxels: [X, Y, Z]; integers as stored, scaled values where the file gives a scale.
        affine: Voxel index to mm, 4x4; to lengths of no known unit where the file specifies none.
        unit: The unit of the lengths in the file: `mm`, `meter`, `micron` or `unknown`.
        second_affine: Another affine that the file gives, which other programs may use (NIfTI: the qform, where the
            sform applies); else None.
        unused_affines: (name, affine) of those that the file contains and marks as meaningless (NIfTI: of code 0).
        warnings: What is odd about the file, each without its name.
    """

    voxels: NDArray[Any]
    affine: NDArray[np.float64]
    unit: str = UNKNOWN
    second_affine: NDArray[np.float64] | None = None
    warnings: tuple[str, ...] = ()
    unused_affines: tuple[tuple[str, NDArray[np.float64]], ...] = ()

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel edges along the array's axes, in the affine's unit."""
        x, y, z = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)).tolist()
        return x, y, z


class FileError(DataError):
    """One file that can't be used.

    Attributes:
        path: The file; for content in memory, its name.
        reason: The problem and its fix, without any name: it may appear where names may not.
    """

    def __init__(self, path: Source, reason: str) -> None:
        """Make the message: the file's name, then the reason."""
        super().__init__(f"{path.name}: {reason}")
        self.path = path if isinstance(path, Path) else path.path or Path(path.name)
        self.reason = reason


class TooLargeError(FileError):
    """A file that may be sound, but has more pixels or voxels than are taken."""


def open_source(source: Source) -> BinaryIO:
    """Open a file, or content in memory, for reading."""
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source.content)


def read_start(source: Source, size: int = 16) -> bytes:
    """The first bytes of a file or of content in memory, uncompressed or not as they are.

    Raises:
        FileError: It can't be read.
    """
    if isinstance(source, InMemory):
        return source.content[:size]
    try:
        with open_source(source) as file:
            return file.read(size)
    except OSError:
        raise FileError(source, DAMAGED) from None


def load_small(source: Source) -> Source:
    """A regular file's content if it is small, so that it is opened once; a larger file, or content, as it is.

    Raises:
        FileError: It is no regular file with content, or can't be read.
    """
    if isinstance(source, InMemory):
        if not source.content:
            raise FileError(source, "is empty; send the file's bytes")
        return source
    try:
        size = _regular_size(source)
        if size > SMALL:
            return source
        content = _read_at_once(source, size)
    except OSError as error:
        raise FileError(source, f"can't be read ({error.strerror}); check its permissions") from None
    return InMemory(source.name, content, source) if len(content) == size else source


def _regular_size(path: Path) -> int:
    """A file's bytes. What would fail or block when opened is refused: a folder, a pipe, a broken link."""
    try:
        status = os.stat(path)
    except OSError as error:
        if error.errno not in _BROKEN_LINK:
            raise
        raise FileError(path, NOT_REGULAR) from None
    if not stat.S_ISREG(status.st_mode):
        raise FileError(path, NOT_REGULAR)
    if not status.st_size:
        raise FileError(path, "is empty; copy it again or remove it")
    return status.st_size


def _read_at_once(path: Path, size: int) -> bytes:
    """The first bytes of a file, by one call of the system each to open, read and close it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)


def array_digest(values: NDArray[Any]) -> str:
    """SHA-256 of an array's shape and values, in C order and little-endian."""
    plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{plain.dtype.str}{plain.shape}".encode())
    digest.update(plain.data)
    return digest.hexdigest()
