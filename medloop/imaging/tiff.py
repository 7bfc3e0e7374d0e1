"""2D images in TIFF, as libtiff reads them. Torch-free.

Source of the format: TIFF 6.0 (1992), sections 2, 8 and 18, and BigTIFF. One image is read from a file: reduced copies
(thumbnails) and masks next to it don't count, and several pages are refused.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medloop.imaging.files import FileError, Source, open_source
from medloop.imaging.pictures import libtiff_decode, too_large, turn_upright
from medloop.imaging.tiff_tags import MAX_PAGES, MAX_STRIPS, Tag, Tags, as_grey, directories, layout, read_tags

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Little and big endian; the second pair is BigTIFF."""
_UNREADABLE = "is truncated or damaged, or a kind of TIFF that is not read; copy it again, or convert it to PNG"
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
_DEFAULTS: Tags = {
    **{Tag.BITS: (1,), Tag.COMPRESSION: (_NO_COMPRESSION,), Tag.ORIENTATION: (1,)},
    **{Tag.CHANNELS: (1,), Tag.STRIP_HEIGHT: (2**32 - 1,), Tag.PLANES: (1,), Tag.SAMPLE_FORMAT: (_UNSIGNED,)},
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
    if tags[Tag.COMPRESSION][0] != _OLD_JPEG:
        _check_strips(content, tags)
    if _photometric(tags) == _CMYK and tags[Tag.COMPRESSION][0] not in _JPEGS:
        libtiff_decode(as_grey(content, directory), page)  # for the damage that it reports
    read = _stored_pixels if _is_stored(tags) else _shown_pixels
    return turn_upright(read(path, content, page, tags), tags[Tag.ORIENTATION][0])


def _find_image(path: Source, file: BinaryIO) -> tuple[int, int, Tags]:
    """Number, position and tags of the one page that is neither a reduced copy nor a mask; else of the first."""
    order, big = layout(file.read(4))
    pages = list(directories(file, order, big))
    images = [page for page in pages if _is_image(page[2])]
    if len(images) > 1 or len(pages) >= MAX_PAGES:
        raise FileError(path, "has several pages; give one file for each image")
    number, offset, _ = (images or pages)[0]
    file.seek(offset)
    return number, offset, {**_DEFAULTS, **read_tags(file, order, big, MAX_STRIPS)}


def _is_image(tags: Tags) -> bool:
    return not tags.get(Tag.NEW_SUBFILE_TYPE, (0,))[0] & _NOT_AN_IMAGE and tags.get(Tag.SUBFILE_TYPE) != (2,)


def _check_size(path: Source, tags: Tags, max_pixels: int) -> None:
    """Refuse a large image, or tiles larger than any image, before memory is allocated for them."""
    (width,), (height,) = tags[Tag.WIDTH], tags[Tag.HEIGHT]
    (across,), (down,) = tags.get(Tag.TILE_WIDTH, (1,)), tags.get(Tag.TILE_HEIGHT, (1,))
    if max(width * height, across * down) > max_pixels:
        raise too_large(path, max_pixels)


def _check_kind(path: Source, tags: Tags) -> None:
    """Refuse what libtiff would read as something else, or with much memory."""
    kinds, (channels,), bits = set(tags[Tag.SAMPLE_FORMAT]), tags[Tag.CHANNELS], tags[Tag.BITS]
    if channels == 1 and len(bits) > 1:  # the number of channels is missing
        raise FileError(path, _UNREADABLE)
    if kinds - {_UNSIGNED, _SIGNED, _UNDEFINED}:
        raise FileError(path, "has floating-point pixels; scale all images alike, and save them with 16 bits")
    if _SIGNED in kinds and min(bits) <= 8:
        raise FileError(path, "has signed pixels; save it with 8 or 16 unsigned bits")
    if Tag.PHOTOMETRIC not in tags:
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
    channels = tags[Tag.CHANNELS][0]
    return channels <= 4 and (channels > 2) == (_photometric(tags) == _RGB)


def _is_stored(tags: Tags) -> bool:
    """True for grey and RGB with 8 bits a channel and more that are no JPEG: libtiff decodes them strictly."""
    is_jpeg = tags[Tag.COMPRESSION][0] in _JPEGS
    return _photometric(tags) <= _RGB and min(tags[Tag.BITS]) >= 8 and not is_jpeg


def _shown_pixels(path: Source, content: bytes, page: int, tags: Tags) -> NDArray[Any]:
    """The pixels of JPEG, palettes, fewer than 8 bits, YCbCr and CMYK, as libtiff shows them: uint8."""
    if _photometric(tags) == _RGB and tags[Tag.CHANNELS][0] > 3:
        raise FileError(path, "is a JPEG with transparency; save it without transparency")
    if tags[Tag.COMPRESSION][0] not in _JPEGS:
        libtiff_decode(content, page)  # libtiff shows black in place of damage that it reports here
    pixels = libtiff_decode(content, page, as_rgb=True).reshape(tags[Tag.HEIGHT][0], tags[Tag.WIDTH][0], 4)
    pixels = turn_upright(pixels, _MIRRORED.get(tags[Tag.ORIENTATION][0], 1))
    return pixels[..., 0] if _photometric(tags) < _RGB else pixels[..., :3]


def _check_strips(content: bytes, tags: Tags) -> None:
    """Refuse an image of which strips or tiles are missing or end outside of the file: libtiff would make them up.

    Raises:
        ValueError: Some are.
    """
    (width,), (height,), planes = tags[Tag.WIDTH], tags[Tag.HEIGHT], tags[Tag.PLANES][0]
    tiled = Tag.TILES in tags
    across, down = (tags[Tag.TILE_WIDTH][0], tags[Tag.TILE_HEIGHT][0]) if tiled else (width, tags[Tag.STRIP_HEIGHT][0])
    num = -(-width // across) * -(-height // down) * (tags[Tag.CHANNELS][0] if planes == _PLANES_APART else 1)
    starts = tags[Tag.TILES if tiled else Tag.STRIPS]
    if len(starts) < num:
        raise ValueError("parts are missing")
    if tags[Tag.COMPRESSION][0] == _JPEG and not all(content.startswith(_SOI, start) for start in starts[:num]):
        raise ValueError("parts are no JPEG")
    sizes = tags.get(Tag.TILE_BYTES if tiled else Tag.STRIP_BYTES, ())
    if tags[Tag.COMPRESSION][0] == _NO_COMPRESSION or len(sizes) < num:  # libtiff computes them: some are wrong
        sizes = (1,) * num
    if any(start < 8 or start + size > len(content) for start, size in zip(starts[:num], sizes[:num], strict=True)):
        raise ValueError("parts are outside of the file")


def _stored_pixels(path: Source, content: bytes, page: int, tags: Tags) -> NDArray[Any]:
    """The pixels of grey and RGB with 8 bits a channel and more, as they are stored: uint8 or uint16."""
    bits, (channels,) = tags[Tag.BITS][0], tags[Tag.CHANNELS]
    pixels = libtiff_decode(content, page)
    if tags[Tag.PLANES] == (_PLANES_APART,) and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    pixels = pixels.reshape(tags[Tag.HEIGHT][0], tags[Tag.WIDTH][0], channels)
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > _LARGEST:
        raise FileError(
            path, f"has pixels from {low} to {high}, and those from 0 to {_LARGEST} are read; scale all images alike"
        )
    values: NDArray[Any] = pixels.astype(np.uint8 if bits == 8 else np.uint16)
    if _PREMULTIPLIED in tags.get(Tag.EXTRA_CHANNELS, ()):
        values = _without_transparency(values, 2 ** min(bits, 16) - 1)
    values = values[..., :3] if channels > 2 else values[..., 0]
    return (2 ** min(bits, 16) - 1) - values if _photometric(tags) == _WHITE_IS_ZERO else values


def _without_transparency(values: NDArray[Any], largest: int) -> NDArray[Any]:
    """Divide colours by the last channel, which they are multiplied with; black where that is 0."""
    colours = values.astype(np.uint32) * np.uint32(largest) // np.maximum(values[..., -1:], 1)
    divided: NDArray[Any] = np.minimum(colours, largest).astype(values.dtype)
    return divided


def _photometric(tags: Tags) -> int:
    return tags[Tag.PHOTOMETRIC][0]
