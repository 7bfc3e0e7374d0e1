"""Image files: read with the checks that a stranger's file needs, written without what names a patient. Torch-free.

2D: PNG and JPEG, as pixels. 3D: NIfTI-1 and NIfTI-2 (`medloop.imaging.nifti`).
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from medloop.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 100_000_000
"""Of one image: more is a mistake or a decompression bomb."""
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_GREY = ("1", "L", "LA", "La")


@dataclass(frozen=True)
class InMemory:
    """A file's content that is on no disk, such as a request's body; readers take it wherever they take a path.

    Attributes:
        name: Stands in error messages, where a path's name would.
        content: The file's bytes.
    """

    name: str
    content: bytes


Source = Path | InMemory


class FileError(DataError):
    """One file that can't be used.

    Attributes:
        path: The file; for content in memory, its name.
        reason: What is wrong and how to mend it, without any name: it may appear where names may not.
    """

    def __init__(self, path: Source, reason: str) -> None:
        """Say the file's name, then the reason."""
        super().__init__(f"{path.name}: {reason}")
        self.path = path if isinstance(path, Path) else Path(path.name)
        self.reason = reason


class TooLargeError(FileError):
    """A file that may be sound, but has more pixels or voxels than are taken."""


def open_source(source: Source) -> BinaryIO:
    """Open a file, or content in memory, for reading."""
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source.content)


def source_size(source: Source) -> int:
    """Bytes that a file holds."""
    return source.stat().st_size if isinstance(source, Path) else len(source.content)


def require_regular_file(path: Source) -> None:
    """Refuse what would fail or block when opened: a folder, a pipe, a broken link, an empty file.

    Raises:
        FileError: It is no regular file with content.
    """
    if isinstance(path, InMemory):
        if not path.content:
            raise FileError(path, "is empty; send the file's bytes")
        return
    try:
        if not path.is_file():
            raise FileError(path, "is no regular file; put the file itself there")
        if path.stat().st_size == 0:
            raise FileError(path, "is empty; copy it again or remove it")
    except OSError as error:
        raise FileError(path, f"can't be read ({error.strerror}); check its permissions") from None


def read_image(path: Source, max_pixels: int = MAX_PIXELS) -> NDArray[Any]:
    """Read a PNG or JPEG, turned upright as its EXIF orientation says.

    Args:
        path: The file, or its content.
        max_pixels: More are refused before they are decoded.

    Returns:
        [H, W] uint8 or uint16 (grey), or [H, W, 3] uint8 (colour). Transparency is dropped.

    Raises:
        FileError: No PNG or JPEG, damaged, more than one frame, or (`TooLargeError`) more than `max_pixels`.
    """
    require_regular_file(path)
    try:
        with warnings.catch_warnings():
            # Pillow warns of a bomb where this function refuses it, and of damage in metadata that nobody keeps.
            warnings.simplefilter("ignore")
            with open_source(path) as file, Image.open(file, formats=("PNG", "JPEG")) as picture:
                _check_picture(path, picture, max_pixels)
                return _pixels(ImageOps.exif_transpose(picture))
    except UnidentifiedImageError:
        raise FileError(path, "is no PNG or JPEG image, whatever its name says; replace or remove it") from None
    except Image.DecompressionBombError:
        raise TooLargeError(path, f"has more than {max_pixels} pixels; make it smaller or remove it") from None
    except FileError:
        raise
    except Exception:  # a stranger's bytes make Pillow raise nearly anything
        raise FileError(path, "is truncated or damaged; copy it again or remove it") from None


def write_png(path: Path, pixels: NDArray[Any]) -> None:
    """Write a PNG that holds pixels and nothing else; the same pixels give the same bytes.

    Args:
        path: Its folder is made where it is missing.
        pixels: [H, W] uint8 or uint16 grey, or [H, W, 3] uint8 RGB.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG", compress_level=6)


def pixel_digest(pixels: NDArray[Any]) -> str:
    """SHA-256 of what an image shows: a colour image whose channels agree equals its grey twin."""
    if pixels.ndim == 3 and pixels.dtype == np.uint8 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    return array_digest(pixels)


def array_digest(values: NDArray[Any]) -> str:
    """SHA-256 of an array's shape and values, in C order and little-endian."""
    plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{plain.dtype.str}{plain.shape}".encode())
    digest.update(plain.tobytes())
    return digest.hexdigest()


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
