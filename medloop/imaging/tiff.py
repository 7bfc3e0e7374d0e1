"""2D images in TIFF: Pillow reads up to 8 bits a channel and 12-bit grey, libtiff what Pillow cuts. Torch-free.

Source of the format: TIFF 6.0 (1992), sections 8 and 18, and BigTIFF. One image is read from a file: reduced copies
(thumbnails) and masks next to it don't count, and several pages are refused.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from medloop.imaging.files import FileError, Source, open_source
from medloop.imaging.pictures import libtiff_decode, plain_pixels, too_large, turn_upright

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Little and big endian; the second pair is BigTIFF, of which Pillow reads the first only."""
MAX_PAGES = 32
"""Directories that are looked at: an image, its reduced copies and masks."""
_UNREADABLE = "is truncated or damaged, or a kind of TIFF that is not read; copy it again, or convert it to PNG"
_NOT_AN_IMAGE = 0b101
"""Bits of NewSubfileType: a reduced copy, a mask."""
_WHITE_IS_ZERO, _RGB = 0, 2
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED = 1, 2, 3, 4
_PREMULTIPLIED = 1
_PLANES_APART = 2
_LARGEST = 65535

# Pillow logs an error for some files that it refuses; without a handler Python would print it.
logging.getLogger("PIL.TiffImagePlugin").addHandler(logging.NullHandler())


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
        with warnings.catch_warnings():
            # Pillow warns of damage in tags that no pixel depends on.
            warnings.simplefilter("ignore")
            with open_source(path) as file:
                return np.ascontiguousarray(_read(path, file, max_pixels))
    except Image.DecompressionBombError:
        raise too_large(path, max_pixels) from None
    except FileError:
        raise
    except Exception:  # hostile bytes make Pillow and libtiff raise nearly anything
        raise FileError(path, _UNREADABLE) from None


def _read(path: Source, file: BinaryIO, max_pixels: int) -> NDArray[Any]:
    page, tags = _find_image(path, file)
    _check_size(path, tags, max_pixels)
    bits, kinds = _values(tags, 258, 1), {int(kind) for kind in _values(tags, 339, _UNSIGNED)}
    if kinds - {_UNSIGNED, _SIGNED, _UNDEFINED}:
        raise FileError(path, "has floating-point pixels; scale all images alike, and save them with 16 bits")
    if _needs_libtiff(tags, min(bits), _SIGNED in kinds):
        file.seek(0)
        return turn_upright(_stored_pixels(path, file.read(), page, tags), int(tags.get(274, 1)))
    if _SIGNED in kinds:
        raise FileError(path, "has signed pixels; save it with 8 or 16 unsigned bits")
    with Image.open(file, formats=("TIFF",)) as picture:
        picture.seek(page)
        picture.load()  # turns it upright
        if picture.mode == "LAB":
            raise FileError(path, "has colours in CIELAB; convert it to RGB")
        return plain_pixels(picture)


def _find_image(path: Source, file: BinaryIO) -> tuple[int, ImageFileDirectory_v2]:
    """The number and the tags of the one page that is neither a reduced copy nor a mask; else of the first."""
    head = file.read(16)
    if head.startswith(MAGIC[-1]):
        raise FileError(path, "is a BigTIFF in big-endian order; save it as little-endian, or convert it to PNG")
    pages = list(_directories(file, head if head.startswith(MAGIC[-2]) else head[:8]))
    images = [page for page in pages if not int(page[1].get(254, 0)) & _NOT_AN_IMAGE and page[1].get(255) != 2]
    if len(images) > 1 or len(pages) >= MAX_PAGES:
        raise FileError(path, "has several pages; give one file for each image")
    return (images or pages)[0]


def _directories(file: BinaryIO, head: bytes) -> Iterator[tuple[int, ImageFileDirectory_v2]]:
    """Yield each directory's number and tags, without following a circle."""
    offset = ImageFileDirectory_v2(head).next
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < MAX_PAGES:
        tags = ImageFileDirectory_v2(head)
        file.seek(offset)
        tags.load(file)
        yield len(seen), tags
        seen.add(offset)
        offset = tags.next


def _check_size(path: Source, tags: ImageFileDirectory_v2, max_pixels: int) -> None:
    """Refuse a large image, or tiles larger than any image, before memory is allocated for them."""
    for width, height in ((256, 257), (322, 323)):
        if int(tags.get(width, 1)) * int(tags.get(height, 1)) > max_pixels:
            raise too_large(path, max_pixels)


def _needs_libtiff(tags: ImageFileDirectory_v2, bits: int, is_signed: bool) -> bool:
    """True for more than 8 bits, and for channels that Pillow doesn't read: stored apart, or grey and unspecified."""
    if _photometric(tags) > _RGB or bits < 8 or (bits == 8 and is_signed):
        return False
    return bits >= 16 or (bits == 8 and (tags.get(284) == _PLANES_APART or tags.get(277) == 2))


def _stored_pixels(path: Source, content: bytes, page: int, tags: ImageFileDirectory_v2) -> NDArray[Any]:
    """The pixels of an image with 8, 16 or 32 bits a channel, as libtiff gives them: uint8 or uint16."""
    bits, channels = _values(tags, 258, 1), int(tags.get(277, 1))
    if channels > 4 or (channels > 2) != (_photometric(tags) == _RGB):
        raise FileError(path, f"has {channels} channels that are no RGB; save it as grey or RGB, or one file a channel")
    if (bits[0] > 16 and (channels > 1 or _photometric(tags) == _WHITE_IS_ZERO)) or len(set(bits)) > 1:
        raise FileError(path, f"has {channels} channels of {bits[0]} bits; save it as grey or RGB with 16 bits")
    if _PREMULTIPLIED in _values(tags, 338, 0):
        raise FileError(path, "has colours multiplied by its transparency; save it without transparency")
    pixels = libtiff_decode(content, page)
    if tags.get(284) == _PLANES_APART and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    expected = (int(tags[257]), int(tags[256]), *([channels] if channels > 1 else []))
    pixels = pixels.reshape(expected)
    if channels > 1:
        pixels = pixels[..., :3] if channels > 2 else pixels[..., 0]
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > _LARGEST:
        raise FileError(
            path, f"has pixels from {low} to {high}, and those from 0 to {_LARGEST} are read; scale all images alike"
        )
    values: NDArray[Any] = pixels.astype(np.uint8 if bits[0] == 8 else np.uint16)
    return ~values if _photometric(tags) == _WHITE_IS_ZERO else values


def _photometric(tags: ImageFileDirectory_v2) -> int:
    return int(tags.get(262, 0))


def _values(tags: ImageFileDirectory_v2, tag: int, default: int) -> tuple[int, ...]:
    value = tags.get(tag, default)
    return tuple(value) if isinstance(value, tuple) else (value,)
