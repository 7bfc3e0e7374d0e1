"""Thumbnails in a temporary file: a million take 256 MB, which memory needn't hold. Torch-free."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from typing import IO

import numpy as np
from numpy.typing import NDArray

EDGE = 16
"""Edge of a thumbnail."""
_BYTES = EDGE * EDGE
_BLOCK = 1024
"""Thumbnails that are written at once."""
_EMPTY = bytes(_BYTES)


class Thumbnails:
    """Thumbnails of images, by row.

    Args:
        thumbnails: The first ones.
    """

    def __init__(self, thumbnails: Iterable[bytes] = ()) -> None:
        self._file: IO[bytes] | None = None
        self._blocks: dict[int, bytes] = {}
        """Those that the disk has no room for."""
        self._last, self._present = bytearray(), bytearray()
        for row, thumbnail in enumerate(thumbnails):
            self.put(row, thumbnail)

    def put(self, row: int, thumbnail: bytes) -> None:
        """Add a row's thumbnail; rows ascend, and a row without thumbnail may be left out.

        Args:
            row: Its number.
            thumbnail: Its values; empty for an image without content.
        """
        if not thumbnail:
            return
        while len(self._present) < row:
            self._append(_EMPTY)
        self._append(thumbnail)

    def _append(self, thumbnail: bytes) -> None:
        self._present.append(thumbnail is not _EMPTY)
        self._last += thumbnail
        if len(self._last) == _BLOCK * _BYTES:
            self._write(len(self._present) // _BLOCK - 1)
            self._last.clear()

    def _write(self, block: int) -> None:
        content = bytes(self._last)
        try:
            self._file = self._file or tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (open as long as it lives)
            if os.pwrite(self._file.fileno(), content, block * len(content)) == len(content):
                return
        except OSError:  # memory may have room where the disk has none
            pass
        self._blocks[block] = content

    def has(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """True for each row with a thumbnail [N]."""
        present = np.zeros(1 + max(len(self._present), int(rows.max(initial=0))), np.bool_)
        present[: len(self._present)] = np.frombuffer(bytes(self._present), np.bool_)
        return present[rows]

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """The thumbnails in rows that have one [N, 256]."""
        values, blocks = np.empty((len(rows), _BYTES), np.uint8), rows // _BLOCK
        for block in np.unique(blocks).tolist():
            chosen = np.flatnonzero(blocks == block)
            values[chosen] = self._read(block)[rows[chosen] - block * _BLOCK]
        return values

    def _read(self, block: int) -> NDArray[np.uint8]:
        if block == len(self._present) // _BLOCK:
            content = bytes(self._last)
        elif block in self._blocks or self._file is None:
            content = self._blocks[block]
        else:
            content = os.pread(self._file.fileno(), _BLOCK * _BYTES, block * _BLOCK * _BYTES)
        return np.frombuffer(content, np.uint8).reshape(-1, _BYTES)
