"""2D images that Pillow reads, checked before they are decoded; PNG is what is written. Torch-free.

Pillow keeps the upper 8 bits of 16-bit PNGs with several channels: those are decoded and written by libpng instead.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile

from medloop.imaging.files import DAMAGED, FileError, Source, TooLargeError, array_digest, open_source

MAX_PIXELS = 100_000_000
"""Largest image: more is a mistake or a decompression bomb."""
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_GREY = ("1", "L", "LA", "La")
_ANCILLARY = (b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT")
"""Ancillary chunks of a PNG that colours, orientation and the number of frames depend on."""
_PLUGINS = {"PNG": "Png", "JPEG": "Jpeg", "WEBP": "WebP", "BMP": "Bmp"}
"""Pillow's modules by its names of formats."""
_XMP = b"XML:com.adobe.xmp\0\0"
"""Start of an uncompressed text that may contain the orientation."""
_MAX_XMP = 2**20
_END = b"\0\0\0\0IEND\xaeB`\x82"
_UPRIGHT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
"""Turns by EXIF's value of Orientation (CIPA DC-008, section 4.6.5)."""


def pillow_reader(form: str) -> Callable[[Source, int], NDArray[Any]]:
    """A reader of one of Pillow's formats, by Pillow's name of it."""
    return partial(read_picture, form=form)


def read_picture(path: Source, max_pixels: int, form: str) -> NDArray[Any]:
    """Read an image, turned upright as its EXIF orientation says.

    Args:
        path: The file, or its content.
        max_pixels: More are refused before they are decoded.
        form: Pillow's name of the format, such as `PNG`.

    Returns:
        [H, W] (grey) or [H, W, 3] (colour), uint8 or uint16. Transparency is dropped.

    Raises:
        FileError: Not in this format, damaged, more than one frame, or (`TooLargeError`) more than `max_pixels`.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of a bomb where this function refuses it, and of damage in metadata that is dropped.
            warnings.simplefilter("ignore")
            with open_source(path) as file:
                return _read(path, file, max_pixels, form)
    except Image.DecompressionBombError:
        raise too_large(path, max_pixels) from None
    except FileError:
        raise
    except Exception:  # hostile bytes make Pillow raise nearly anything
        raise FileError(path, DAMAGED) from None


def write_png(path: Path, pixels: NDArray[Any]) -> None:
    """Write a PNG of pixels only, without metadata; the same pixels give the same bytes.

    Args:
        path: Its folder is made where it is missing.
        pixels: [H, W] grey or [H, W, 3] RGB, uint8 or uint16.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.ascontiguousarray(pixels)
    if pixels.ndim == 3 and pixels.dtype == np.uint16:
        path.write_bytes(_libpng().png_encode(pixels, level=6))
        return
    Image.fromarray(pixels).save(path, format="PNG", compress_level=6)


def in_colour(pixels: NDArray[Any]) -> bool:
    """True if an image's channels differ anywhere; grey that is stored as RGB is no colour."""
    return pixels.ndim == 3 and not bool((pixels == pixels[..., :1]).all())


def pixel_digest(pixels: NDArray[Any], colour: bool | None = None) -> str:
    """SHA-256 of what an image shows: a colour image whose channels agree equals the same image in grey.

    Args:
        pixels: [H, W] or [H, W, 3].
        colour: The result of `in_colour`, if it is known.
    """
    colour = in_colour(pixels) if colour is None else colour
    return array_digest(pixels if pixels.ndim == 2 or colour else pixels[..., 0])


def too_large(path: Source, max_pixels: int) -> TooLargeError:
    """The error of an image with too many pixels."""
    return TooLargeError(path, f"has more than {max_pixels} pixels; make it smaller or remove it")


def turn_upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn or mirror an image by EXIF's value of Orientation; other values leave it unchanged."""
    turn = _UPRIGHT.get(orientation)
    return pixels if turn is None else turn(pixels)


def _plain_pixels(picture: Image.Image) -> NDArray[Any]:
    """The pixels of a decoded picture: [H, W] grey, uint8 or uint16, or [H, W, 3] RGB, uint8."""
    if picture.mode in _SIXTEEN_BITS:
        return np.asarray(picture).astype(np.uint16)
    mode = "L" if picture.mode in _GREY else "RGB"
    picture = picture if picture.mode == mode else picture.convert(mode)
    values = np.frombuffer(bytearray(picture.tobytes()), np.uint8)  # half the time of np.array(picture) if it is small
    return values.reshape((picture.height, picture.width, 3)[: 2 if mode == "L" else 3])


def libtiff_decode(content: bytes, page: int, *, as_rgb: bool = False) -> NDArray[Any]:
    """One page of a TIFF: what is stored, [H, W], [H, W, C] or (planes apart) [C, H, W]; or RGBA, [H, W, 4], uint8."""
    import imagecodecs  # few files need it

    pixels: NDArray[Any] = imagecodecs.tiff_decode(content, index=page, asrgb=as_rgb)
    return pixels


def _read(path: Source, file: BinaryIO, max_pixels: int, form: str) -> NDArray[Any]:
    try:
        return _decode(path, file, max_pixels, form)
    except (FileError, Image.DecompressionBombError):
        raise
    except Exception as error:
        if "-bit layers" in str(error):
            raise FileError(path, "is a JPEG with more than 8 bits; convert it to a PNG with 16 bits") from None
        if form != "PNG":
            raise
    # What Pillow refuses may be a text or a profile that is long or damaged, and no pixel depends on.
    return _decode(path, _plain_png(file, max_pixels), max_pixels, form)


def _decode(path: Source, file: BinaryIO, max_pixels: int, form: str) -> NDArray[Any]:
    with _open(file, form) as picture:
        _check_picture(path, picture, max_pixels)
        deep = form == "PNG" and _is_cut_to_8_bits(picture)
        picture.load()  # Also where libpng decodes: what is truncated is refused by one rule.
        pixels = _deep_pixels(_plain_png(file, max_pixels, strict=False)) if deep else _plain_pixels(picture)
        return np.ascontiguousarray(turn_upright(pixels, _orientation(picture)))


def _is_cut_to_8_bits(picture: ImageFile) -> bool:
    return picture.mode not in _SIXTEEN_BITS and any(";16" in str(tile.args) for tile in picture.tile)


def _open(file: BinaryIO, form: str) -> ImageFile:
    plugin = _plugin(form)
    return Image.open(file, formats=(form,)) if plugin is None else plugin(file)


@cache
def _plugin(form: str) -> type[ImageFile] | None:
    """Pillow's class of a format; None if it is found by its name only.

    `Image.open` imports the plugins of five formats, or of all. It also takes the further pictures that cameras and
    phones store behind a JPEG (CIPA DC-007) for frames.
    """
    module = _PLUGINS.get(form)
    return getattr(import_module(f"PIL.{module}ImagePlugin"), f"{module}ImageFile") if module else None


def _check_picture(path: Source, picture: Image.Image, max_pixels: int) -> None:
    width, height = picture.size
    if width * height > max_pixels:
        raise too_large(path, max_pixels)
    if getattr(picture, "n_frames", 1) > 1:
        raise FileError(path, "is an animation; give one file for each image")


def _orientation(picture: Image.Image) -> int:
    if not picture.info:  # without metadata there is none: as long as decoding a tiny image
        return 1
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata, as viewers see it: none
        return 1


def _deep_pixels(file: io.BytesIO) -> NDArray[Any]:
    """The pixels of a PNG with several channels of 16 bits, without its transparency."""
    pixels: NDArray[Any] = _libpng().png_decode(file.getvalue())
    return pixels[..., 0] if pixels.shape[2] < 3 else pixels[..., :3]


def _libpng() -> Any:
    import imagecodecs  # few files need it

    return imagecodecs


def _plain_png(file: BinaryIO, max_pixels: int, *, strict: bool = True) -> io.BytesIO:
    """A PNG without its chunks that no pixel depends on, without damaged ancillary ones, and with an end.

    Args:
        file: The whole PNG.
        max_pixels: Of the largest image.
        strict: Refuses critical chunks with a wrong checksum; else they get the right one, as Pillow ignores some.

    Raises:
        ValueError: A critical chunk is damaged, or a chunk is larger than the largest image.
    """
    file.seek(0)
    chunks = [file.read(8)]
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        length, kind = struct.unpack(">I4s", head)
        critical = kind[:1].isupper()
        if not critical and kind not in _ANCILLARY and (kind != b"iTXt" or length > _MAX_XMP):
            file.seek(length + 4, io.SEEK_CUR)
            continue
        if length > 8 * max_pixels + 2**20:
            raise ValueError("a chunk is larger than the largest image")
        body = file.read(length + 4)
        checksum = struct.pack(">I", zlib.crc32(kind + body[:-4]))
        if critical and strict and checksum != body[-4:]:
            raise ValueError("a critical chunk has a wrong checksum")
        if critical or (checksum == body[-4:] and (kind != b"iTXt" or body.startswith(_XMP))):
            chunks.append(head + body[:-4] + checksum)
    return io.BytesIO(b"".join(chunks) + _END)
