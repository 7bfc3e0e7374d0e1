"""2D images that Pillow reads, checked before they are decoded; PNG is what is written. Torch-free."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from medloop.imaging.files import DAMAGED, FileError, Source, TooLargeError, array_digest, open_source

MAX_PIXELS = 100_000_000
"""Largest image: more is a mistake or a decompression bomb."""
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_GREY = ("1", "L", "LA", "La")


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
        [H, W] uint8 or uint16 (grey), or [H, W, 3] uint8 (colour). Transparency is dropped.

    Raises:
        FileError: Not in this format, damaged, more than one frame, or (`TooLargeError`) more than `max_pixels`.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of a bomb where this function refuses it, and of damage in metadata that is dropped.
            warnings.simplefilter("ignore")
            with open_source(path) as file, Image.open(file, formats=(form,)) as picture:
                _check_picture(path, picture, max_pixels)
                return _pixels(ImageOps.exif_transpose(picture))
    except Image.DecompressionBombError:
        raise TooLargeError(path, f"has more than {max_pixels} pixels; make it smaller or remove it") from None
    except FileError:
        raise
    except Exception:  # hostile bytes make Pillow raise nearly anything
        raise FileError(path, DAMAGED) from None


def write_png(path: Path, pixels: NDArray[Any]) -> None:
    """Write a PNG of pixels only, without metadata; the same pixels give the same bytes.

    Args:
        path: Its folder is made where it is missing.
        pixels: [H, W] uint8 or uint16 grey, or [H, W, 3] uint8 RGB.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG", compress_level=6)


def pixel_digest(pixels: NDArray[Any]) -> str:
    """SHA-256 of what an image shows: a colour image whose channels agree equals the same image in grey."""
    if pixels.ndim == 3 and pixels.dtype == np.uint8 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    return array_digest(pixels)


def _check_picture(path: Source, picture: Image.Image, max_pixels: int) -> None:
    width, height = picture.size
    if width * height > max_pixels:
        raise TooLargeError(path, f"has more than {max_pixels} pixels; make it smaller or remove it")
    if getattr(picture, "n_frames", 1) > 1:
        raise FileError(path, "is an animation; give one file for each image")


def _pixels(picture: Image.Image) -> NDArray[Any]:
    if picture.mode in _SIXTEEN_BITS:
        return np.asarray(picture).astype(np.uint16)
    return np.array(picture.convert("L" if picture.mode in _GREY else "RGB"))
