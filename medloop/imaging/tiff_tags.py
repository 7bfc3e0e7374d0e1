"""Tags of TIFF files, as far as images depend on them. Torch-free.

libtiff's wrapper tells no tags, and Pillow loads each value of each directory, however long, and no BigTIFF in
big-endian order. Source of the format: TIFF 6.0 (1992), section 2, and BigTIFF.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import BinaryIO

MAX_PAGES = 32
"""Directories that are looked at: an image, its reduced copies and masks."""
_MAX_ENTRIES = 65535
"""Of a directory; BigTIFF could count more."""
MAX_VALUE, MAX_STRIPS = 2**10, 2**22
"""Bytes of the values that are looked at, in any directory and in the image's own."""
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 16: "Q", 17: "q"}
"""Types of values, as `struct` names them; libtiff too takes UNDEFINED (7) for bytes."""
_SIZES = {kind: struct.calcsize(f"={word}") for kind, word in _WHOLE_NUMBERS.items()}
_SIZES |= {2: 1, 5: 8, 10: 8, 11: 4, 12: 8, 13: 4, 18: 8}
"""Bytes of a value of each type."""


class Tag(IntEnum):
    """The tags that are looked at."""

    NEW_SUBFILE_TYPE = 254
    SUBFILE_TYPE = 255
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    STRIPS = 273
    ORIENTATION = 274
    CHANNELS = 277
    STRIP_HEIGHT = 278
    STRIP_BYTES = 279
    PLANES = 284
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILES = 324
    TILE_BYTES = 325
    EXTRA_CHANNELS = 338
    SAMPLE_FORMAT = 339


_LOOKED_AT = frozenset(Tag)
Tags = dict[int, tuple[int, ...]]


def layout(start: bytes) -> tuple[str, bool]:
    """The order of bytes, as `struct` names it, and True for BigTIFF, by a file's first four bytes."""
    return {b"I": "<", b"M": ">"}[start[:1]], b"+" in start


def directories(file: BinaryIO, order: str, big: bool) -> Iterator[tuple[int, int, Tags]]:
    """Yield each directory's number, position and tags, without following a circle."""
    word = order + ("Q" if big else "I")
    file.seek(8 if big else 4)
    offset = _unpack(file, word)
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < MAX_PAGES:
        file.seek(offset)
        yield len(seen), offset, read_tags(file, order, big, MAX_VALUE)
        seen.add(offset)
        offset = _unpack(file, word)


def _unpack(file: BinaryIO, word: str) -> int:
    """The next number; 0 at the end of the file, as some programs write no position of a next directory."""
    packed = file.read(struct.calcsize(word))
    return int(struct.unpack(word, packed)[0]) if len(packed) == struct.calcsize(word) else 0


def read_tags(file: BinaryIO, order: str, big: bool, largest: int) -> Tags:
    """The whole numbers, of at most `largest` bytes, of the directory at the file's position, which is then behind it.

    Raises:
        ValueError: The values together are far longer than the file: libtiff would load each.
    """
    num = _unpack(file, order + ("Q" if big else "H"))
    entry = order + ("HHQ8s" if big else "HHI4s")
    if num > _MAX_ENTRIES:
        raise ValueError("too many entries")
    entries = list(struct.iter_unpack(entry, file.read(num * struct.calcsize(entry))))
    behind, end = file.tell(), file.seek(0, io.SEEK_END)
    tags: Tags = {}
    total = 0
    for tag, kind, count, value in entries:
        size = count * _SIZES.get(kind, 0)
        total += size if size <= end else 0
        if tag in _LOOKED_AT and kind in _WHOLE_NUMBERS and tag not in tags and 0 < size <= min(largest, end):
            tags[tag] = _value(file, value, order, f"{count}{_WHOLE_NUMBERS[kind]}")
    if total > 2 * end:
        raise ValueError("values overlap")
    file.seek(behind)
    return {tag: numbers for tag, numbers in tags.items() if numbers}


def as_grey(content: bytes, directory: int) -> bytes:
    """A file whose CMYK is called grey: libtiff decodes that strictly, and shows CMYK with black in place of damage."""
    order, big = layout(content[:4])
    first, step, field = (8, 20, 12) if big else (2, 12, 8)
    at = directory + first
    while struct.unpack_from(order + "H", content, at)[0] != Tag.PHOTOMETRIC:
        at += step
    kind = struct.unpack_from(order + "H", content, at + 2)[0]
    value = struct.pack(order + _WHOLE_NUMBERS[kind], 1)
    return content[: at + field] + value + content[at + field + len(value) :]


def _value(file: BinaryIO, field: bytes, order: str, numbers: str) -> tuple[int, ...]:
    """The numbers of an entry: in its last field, or where that points to; none outside of the file."""
    size = struct.calcsize(order + numbers)
    if size > len(field):
        file.seek(struct.unpack(order + ("Q" if len(field) == 8 else "I"), field)[0])
        field = file.read(size)
    return struct.unpack(order + numbers, field[:size]) if len(field) >= size else ()
