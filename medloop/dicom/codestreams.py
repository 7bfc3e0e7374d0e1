"""Sizes in compressed pixels: a decoder allocates what they say, regardless of the DICOM header. Torch-free."""

from __future__ import annotations

import struct

_J2K = b"\xff\x4f\xff\x51"
_JPEG = b"\xff\xd8"
_START = 4096
"""Bytes in which a JPEG 2000 box has its code stream."""
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
"""Markers of JPEG's and JPEG-LS's frame headers."""
_STANDALONE = frozenset({0x01, *range(0xD0, 0xDA)})
"""Markers without a length."""


def coded_size(content: bytes) -> tuple[int, int] | None:
    """Rows and columns that a compressed frame specifies; None if it is no JPEG, JPEG-LS or JPEG 2000."""
    start = content[:_START].find(_J2K)
    if start >= 0 and len(content) >= start + 24:
        right, bottom, left, top = struct.unpack_from(">IIII", content, start + 8)
        return bottom - top, right - left
    return _jpeg_size(content) if content.startswith(_JPEG) else None


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    position = 2
    while position + 9 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker in _FRAMES:
            rows, columns = struct.unpack_from(">HH", content, position + 5)
            return (rows, columns) if rows else None  # Zero: a later marker has the number of rows.
        if marker == 0xFF:  # Padding.
            position += 1
        elif marker in _STANDALONE:
            position += 2
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return None
