"""Archives from outside (models, bundles), read within limits: a tar.gz of a few bytes can fill memory and disk.

tarfile reads the headers of long names (GNU) and of extended attributes (pax) as a whole, regardless of their size, and
the map of a sparse member too. `open_archive` bounds the headers of each member and the length of the whole.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

MAX_HEADER_BYTES = 1 << 20
"""Size of one member's headers: hundreds of times the longest path."""
_OVERHEAD_BYTES = 4096
"""Headers and padding of one member."""
_OPENERS = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open))
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, RecursionError, OverflowError)


class ArchiveError(Exception):
    """An archive that can't be used; the message is the reason."""


@dataclass(frozen=True)
class Limits:
    """Limits of an unpacked archive.

    Args:
        num_bytes: Size of all members.
        num_files: Number of members.
    """

    num_bytes: int
    num_files: int = 10_000

    def __str__(self) -> str:
        """The limits as text."""
        return f"{self.num_bytes / 2**30:g} GiB and {self.num_files} files"


BUNDLE_LIMITS = Limits(1 << 30)
"""Limits of a container's code."""
MODEL_LIMITS = Limits(8 << 30)
"""Limits of a model: thirty times the largest network here."""


class _Bounded:
    """A stream whose length is bounded, as is the part of it that one member's headers take."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self.header_bytes_left = MAX_HEADER_BYTES
        self.is_content = False

    def read(self, size: int = -1) -> bytes:
        if not self.is_content:
            self.header_bytes_left -= size if size >= 0 else MAX_HEADER_BYTES
            if self.header_bytes_left < 0:
                raise ArchiveError(f"it has a header of more than {MAX_HEADER_BYTES >> 20} MiB")
        content = self._stream.read(size)
        self._check(self._stream.tell())
        return content

    def seek(self, position: int) -> int:
        self._check(position)
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self, position: int) -> None:
        if position > self._limit:
            raise ArchiveError(f"it is longer than {self._limit / 2**30:.3g} GiB when unpacked")


@dataclass(frozen=True)
class Archive:
    """An open archive, which is read once from its begin to its end."""

    tar: tarfile.TarFile
    stream: _Bounded
    limits: Limits

    def members(self) -> Iterator[tarfile.TarInfo]:
        """The members, as far as the limits allow."""
        total = number = 0
        while (member := self._next()) is not None:
            total, number = total + member.size, number + 1
            if total > self.limits.num_bytes or number > self.limits.num_files:
                raise ArchiveError(f"it contains more than {self.limits}")
            yield member

    def read(self, member: tarfile.TarInfo, limit: int) -> bytes:
        """The content of a member, up to a limit in bytes."""
        file = self.tar.extractfile(member)
        return file.read(limit) if file else b""

    def _next(self) -> tarfile.TarInfo | None:
        self.stream.header_bytes_left, self.stream.is_content = MAX_HEADER_BYTES, False
        member = self.tar.next()
        self.stream.is_content = True
        return member


@contextmanager
def open_archive(source: Path | bytes, limits: Limits) -> Iterator[Archive]:
    """Open a tar archive, compressed or not, for reading.

    Raises:
        ArchiveError: Also from within the block: it is damaged, unsafe or exceeds a limit.
        OSError: It can't be read, or the disk is full.
    """
    with _translate_errors(), ExitStack() as stack:
        raw = stack.enter_context(io.BytesIO(source) if isinstance(source, bytes) else source.open("rb"))
        start = raw.read(6)
        raw.seek(0)
        opener = next((opener for magic, opener in _OPENERS if start.startswith(magic)), None)
        stream = cast(IO[bytes], stack.enter_context(cast(Any, opener)(raw)) if opener else raw)
        bounded = _Bounded(stream, limits.num_bytes + limits.num_files * _OVERHEAD_BYTES)
        yield Archive(stack.enter_context(tarfile.open(fileobj=cast(Any, bounded), mode="r:")), bounded, limits)


def unpack(source: Path | bytes, into: Path, limits: Limits) -> None:
    """Unpack an archive: plain files inside the folder only (tarfile's filter `data`).

    Raises:
        ArchiveError: It is damaged, unsafe or exceeds a limit.
        OSError: It can't be read, or the disk is full.
    """
    with open_archive(source, limits) as archive:
        for member in archive.members():
            archive.tar.extract(member, into, filter="data")


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except tarfile.FilterError as error:
        raise ArchiveError(f"unsafe member: {error}") from error
    except _DAMAGED as error:
        raise ArchiveError(str(error) or type(error).__name__) from error
    except OSError as error:
        if error.errno is None:  # gzip's and bz2's own errors
            raise ArchiveError(str(error)) from error
        raise
