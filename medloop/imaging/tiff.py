"""2D images in TIFF, as libtiff reads them. Torch-free.

Source of the format: TIFF 6.0 (1992), sections 2, 8 and 18, and BigTIFF. One image is read from a file: reduced copies
(thumbnails) and masks next to it don't count, and several pages are refused.

libtiff tells no tags, and Pillow loads each value of each directory, however long, and no BigTIFF in big-endian order:
the few tags that are looked at are read here.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medloop.imaging.files import FileError, Source, open_source
from medloop.imaging.pictures import libtiff_decode, too_large, turn_upright

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Little and big endian; the second pair is BigTIFF."""
MAX_PAGES = 32
"""Directories that are looked at: an image, its reduced copies and masks."""
_UNREADABLE = "is truncated or damaged, or a kind of TIFF that is not read; copy it again, or convert it to PNG"
_MAX_ENTRIES = 65535
"""Of a directory; BigTIFF could count more."""
_MAX_VALUE, _MAX_STRIPS = 2**10, 2**22
"""Bytes of the values that are looked at, in any directory and in the image's own."""
_MAX_CHANNELS = 5
"""CMYK and transparency."""
_NOT_AN_IMAGE = 0b101
"""Bits of NewSubfileType: a reduced copy, a mask."""
_WHITE_IS_ZERO, _RGB, _CMYK, _SHOWN, _CIELAB = 0, 2, 5, (3, 5, 6), (8, 9, 10)
"""Photometric interpretations; shown by libtiff as RGB are palettes, CMYK and YCbCr."""
_UNSIGNED, _SIGNED, _UNDEFINED = 1, 2, 4
_PREMULTIPLIED = 1
_PLANES_APART = 2
_NO_COMPRESSION, _OLD_JPEG, _JPEG = 1, 6, 7
_JPEGS = (_OLD_JPEG, _JPEG)
_SOI = b"\xff\xd8"
"""First bytes of a JPEG."""
_LARGEST = 65535
_MIRRORED = {2: 2, 3: 3, 4: 4, 6: 2, 7: 3, 8: 4}
"""How libtiff mirrors what it shows, by the file's orientation; the same once more undoes it."""
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 16: "Q", 17: "q"}
"""Types of values, as `struct` names them; libtiff too takes UNDEFINED (7) for bytes."""
_SIZES = {**{kind: struct.calcsize(f"={word}") for kind, word in _WHOLE_NUMBERS.items()}}
_SIZES |= {2: 1, 5: 8, 10: 8, 11: 4, 12: 8, 13: 4, 18: 8}
"""Bytes of a value of each type."""


class _Tag(IntEnum):
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


_LOOKED_AT = frozenset(_Tag)
Tags = dict[int, tuple[int, ...]]
_DEFAULTS: Tags = {
    **{_Tag.BITS: (1,), _Tag.COMPRESSION: (_NO_COMPRESSION,), _Tag.ORIENTATION: (1,)},
    **{_Tag.CHANNELS: (1,), _Tag.STRIP_HEIGHT: (2**32 - 1,), _Tag.PLANES: (1,), _Tag.SAMPLE_FORMAT: (_UNSIGNED,)},
}


def read_tiff(path: Source, max_pixels: int) -> NDArray[Any]:
    """Read the image of a TIFF, turned upright as its orientation says.

    Args:
        path: The file, or its content.
        max_pixels: More are refused before they are decoded.

    Returns:
        [H, W] (grey, black is 0) or [H, W, 3] (colour), uint8 or uint16. Transparency is dropped.

    Raises:
        FileError: Damaged, several pages, no unsigned whole numbers, or (`TooLargeError`) more than `max_pixels`.
    """
    try:
        with open_source(path) as file:
            return np.ascontiguousarray(_read(path, file, max_pixels))
    except FileError:
        raise
    except Exception:  # hostile bytes make libtiff and NumPy raise nearly anything
        raise FileError(path, _UNREADABLE) from None


def _read(path: Source, file: BinaryIO, max_pixels: int) -> NDArray[Any]:
    page, directory, tags = _find_image(path, file)
    _check_size(path, tags, max_pixels)
    _check_kind(path, tags)
    file.seek(0)
    content = file.read()
    if tags[_Tag.COMPRESSION][0] != _OLD_JPEG:
        _check_strips(content, tags)
    if _photometric(tags) == _CMYK and tags[_Tag.COMPRESSION][0] not in _JPEGS:
        libtiff_decode(_as_grey(content, directory), page)  # for the damage that it reports
    read = _stored_pixels if _is_stored(tags) else _shown_pixels
    return turn_upright(read(path, content, page, tags), tags[_Tag.ORIENTATION][0])


def _find_image(path: Source, file: BinaryIO) -> tuple[int, int, Tags]:
    """Number, position and tags of the one page that is neither a reduced copy nor a mask; else of the first."""
    order, big = _layout(file.read(4))
    pages = list(_directories(file, order, big))
    images = [page for page in pages if _is_image(page[2])]
    if len(images) > 1 or len(pages) >= MAX_PAGES:
        raise FileError(path, "has several pages; give one file for each image")
    number, offset, _ = (images or pages)[0]
    file.seek(offset)
    return number, offset, {**_DEFAULTS, **_tags(file, order, big, _MAX_STRIPS)}


def _layout(start: bytes) -> tuple[str, bool]:
    """The order of bytes, as `struct` names it, and True for BigTIFF, by a file's first four bytes."""
    return {b"I": "<", b"M": ">"}[start[:1]], b"+" in start


def _is_image(tags: Tags) -> bool:
    return not tags.get(_Tag.NEW_SUBFILE_TYPE, (0,))[0] & _NOT_AN_IMAGE and tags.get(_Tag.SUBFILE_TYPE) != (2,)


def _directories(file: BinaryIO, order: str, big: bool) -> Iterator[tuple[int, int, Tags]]:
    """Yield each directory's number, position and tags, without following a circle."""
    word = order + ("Q" if big else "I")
    file.seek(8 if big else 4)
    offset = _unpack(file, word)
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < MAX_PAGES:
        file.seek(offset)
        yield len(seen), offset, _tags(file, order, big, _MAX_VALUE)
        seen.add(offset)
        offset = _unpack(file, word)


def _unpack(file: BinaryIO, word: str) -> int:
    return int(struct.unpack(word, file.read(struct.calcsize(word)))[0])


def _tags(file: BinaryIO, order: str, big: bool, largest: int) -> Tags:
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


def _as_grey(content: bytes, directory: int) -> bytes:
    """A file whose CMYK is called grey: libtiff decodes that strictly, and shows CMYK with black in place of damage."""
    order, big = _layout(content[:4])
    first, step, field = (8, 20, 12) if big else (2, 12, 8)
    at = directory + first
    while struct.unpack_from(order + "H", content, at)[0] != _Tag.PHOTOMETRIC:
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


def _check_size(path: Source, tags: Tags, max_pixels: int) -> None:
    """Refuse a large image, or tiles larger than any image, before memory is allocated for them."""
    (width,), (height,) = tags[_Tag.WIDTH], tags[_Tag.HEIGHT]
    (across,), (down,) = tags.get(_Tag.TILE_WIDTH, (1,)), tags.get(_Tag.TILE_HEIGHT, (1,))
    if max(width * height, across * down) > max_pixels:
        raise too_large(path, max_pixels)


def _check_kind(path: Source, tags: Tags) -> None:
    """Refuse what libtiff would read as something else, or with much memory."""
    kinds, (channels,), bits = set(tags[_Tag.SAMPLE_FORMAT]), tags[_Tag.CHANNELS], tags[_Tag.BITS]
    if channels == 1 and len(bits) > 1:  # the number of channels is missing
        raise FileError(path, _UNREADABLE)
    if kinds - {_UNSIGNED, _SIGNED, _UNDEFINED}:
        raise FileError(path, "has floating-point pixels; scale all images alike, and save them with 16 bits")
    if _SIGNED in kinds and min(bits) <= 8:
        raise FileError(path, "has signed pixels; save it with 8 or 16 unsigned bits")
    if _Tag.PHOTOMETRIC not in tags:
        raise FileError(path, "doesn't tell if 0 is black or white (PhotometricInterpretation); save it as grey or RGB")
    if _photometric(tags) in _CIELAB:
        raise FileError(path, "has colours in CIELAB; convert it to RGB")
    if _photometric(tags) > _RGB and (_photometric(tags) not in _SHOWN or max(bits) > 8):
        raise FileError(path, f"has colours that are no RGB, with {max(bits)} bits; convert it to RGB or grey")
    if channels > _MAX_CHANNELS or (_photometric(tags) <= _RGB and not _is_grey_or_rgb(tags)):
        raise FileError(path, f"has {channels} channels that are no RGB; save it as grey or RGB, or one file a channel")
    if _photometric(tags) <= _RGB and (
        len(set(bits)) > 1 or (bits[0] > 16 and (channels > 1 or _photometric(tags) == _WHITE_IS_ZERO))
    ):
        raise FileError(path, f"has {channels} channels of {bits[0]} bits; save it as grey or RGB with 16 bits")


def _is_grey_or_rgb(tags: Tags) -> bool:
    """True for one or three channels, with or without one more."""
    channels = tags[_Tag.CHANNELS][0]
    return channels <= 4 and (channels > 2) == (_photometric(tags) == _RGB)


def _is_stored(tags: Tags) -> bool:
    """True for grey and RGB with 8 bits a channel and more that are no JPEG: libtiff decodes them strictly."""
    is_jpeg = tags[_Tag.COMPRESSION][0] in _JPEGS
    return _photometric(tags) <= _RGB and min(tags[_Tag.BITS]) >= 8 and not is_jpeg


def _shown_pixels(path: Source, content: bytes, page: int, tags: Tags) -> NDArray[Any]:
    """The pixels of JPEG, palettes, fewer than 8 bits, YCbCr and CMYK, as libtiff shows them: uint8."""
    if _photometric(tags) == _RGB and tags[_Tag.CHANNELS][0] > 3:
        raise FileError(path, "is a JPEG with transparency; save it without transparency")
    if tags[_Tag.COMPRESSION][0] not in _JPEGS:
        libtiff_decode(content, page)  # libtiff shows black in place of damage that it reports here
    pixels = libtiff_decode(content, page, as_rgb=True).reshape(tags[_Tag.HEIGHT][0], tags[_Tag.WIDTH][0], 4)
    pixels = turn_upright(pixels, _MIRRORED.get(tags[_Tag.ORIENTATION][0], 1))
    return pixels[..., 0] if _photometric(tags) < _RGB else pixels[..., :3]


def _check_strips(content: bytes, tags: Tags) -> None:
    """Refuse an image of which strips or tiles are missing or end outside of the file: libtiff would make them up.

    Raises:
        ValueError: Some are.
    """
    (width,), (height,), planes = tags[_Tag.WIDTH], tags[_Tag.HEIGHT], tags[_Tag.PLANES][0]
    tiled = _Tag.TILES in tags
    across, down = (
        (tags[_Tag.TILE_WIDTH][0], tags[_Tag.TILE_HEIGHT][0]) if tiled else (width, tags[_Tag.STRIP_HEIGHT][0])
    )
    num = -(-width // across) * -(-height // down) * (tags[_Tag.CHANNELS][0] if planes == _PLANES_APART else 1)
    starts = tags[_Tag.TILES if tiled else _Tag.STRIPS]
    if len(starts) < num:
        raise ValueError("parts are missing")
    if tags[_Tag.COMPRESSION][0] == _JPEG and not all(content.startswith(_SOI, start) for start in starts[:num]):
        raise ValueError("parts are no JPEG")
    sizes = tags.get(_Tag.TILE_BYTES if tiled else _Tag.STRIP_BYTES, ())
    if tags[_Tag.COMPRESSION][0] == _NO_COMPRESSION or len(sizes) < num:  # libtiff computes them: some are wrong
        sizes = (1,) * num
    if any(start < 8 or start + size > len(content) for start, size in zip(starts[:num], sizes[:num], strict=True)):
        raise ValueError("parts are outside of the file")


def _stored_pixels(path: Source, content: bytes, page: int, tags: Tags) -> NDArray[Any]:
    """The pixels of grey and RGB with 8 bits a channel and more, as they are stored: uint8 or uint16."""
    bits, (channels,) = tags[_Tag.BITS][0], tags[_Tag.CHANNELS]
    pixels = libtiff_decode(content, page)
    if tags[_Tag.PLANES] == (_PLANES_APART,) and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    pixels = pixels.reshape(tags[_Tag.HEIGHT][0], tags[_Tag.WIDTH][0], channels)
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > _LARGEST:
        raise FileError(
            path, f"has pixels from {low} to {high}, and those from 0 to {_LARGEST} are read; scale all images alike"
        )
    values: NDArray[Any] = pixels.astype(np.uint8 if bits == 8 else np.uint16)
    if _PREMULTIPLIED in tags.get(_Tag.EXTRA_CHANNELS, ()):
        values = _without_transparency(values, 2 ** min(bits, 16) - 1)
    values = values[..., :3] if channels > 2 else values[..., 0]
    return (2 ** min(bits, 16) - 1) - values if _photometric(tags) == _WHITE_IS_ZERO else values


def _without_transparency(values: NDArray[Any], largest: int) -> NDArray[Any]:
    """Divide colours by the last channel, which they are multiplied with; black where that is 0."""
    colours = values.astype(np.uint32) * np.uint32(largest) // np.maximum(values[..., -1:], 1)
    divided: NDArray[Any] = np.minimum(colours, largest).astype(values.dtype)
    return divided


def _photometric(tags: Tags) -> int:
    return tags[_Tag.PHOTOMETRIC][0]
