"""NumPy's `.npy` files of any source: checked before anything big is allocated, and nothing unpickled. Torch-free.

Source of the format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from medloop.imaging.files import DAMAGED, FileError, Source, TooLargeError, Volume, open_source
from medloop.imaging.nifti_header import MAX_VOXELS, TYPES
from medloop.imaging.pictures import MAX_PIXELS

MAGIC = b"\x93NUMPY"
MEDIA_TYPE = "application/x-npy"
MAX_HEADER = 4096
"""Bytes of the text that names type and shape: a literal that Python parses."""
_PIXEL_TYPES = ("uint8", "uint16", "float16", "float32", "float64")


def read_npy_image(source: Source, max_pixels: int = MAX_PIXELS) -> NDArray[Any]:
    """Read an image's pixels.

    Returns:
        [H, W] grey or [H, W, 3] RGB; uint8, uint16, or floating point in 0..1.

    Raises:
        FileError: The file is none, or (`TooLargeError`) has more than `max_pixels`.
    """
    pixels = read_npy(source, 3 * max_pixels)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise FileError(source, "is an array of another shape; give an image of [H, W] or [H, W, 3]")
    if pixels.shape[0] * pixels.shape[1] > max_pixels:
        raise TooLargeError(source, f"has more than {max_pixels} pixels; make it smaller")
    if pixels.dtype.name not in _PIXEL_TYPES:
        raise FileError(source, "contains numbers of another type; give uint8, uint16, or floating point in 0..1")
    if pixels.dtype.kind == "f" and not bool(((pixels >= 0) & (pixels <= 1)).all()):
        raise FileError(source, "has floating-point pixels outside 0..1 or NaN; scale them to 0..1, or give uint8")
    return pixels


def read_npy_volume(source: Source, max_voxels: int = MAX_VOXELS) -> Volume:
    """Read a volume's voxels, [X, Y, Z], finite real numbers; voxels of edge 1, as the file specifies no geometry.

    Raises:
        FileError: The file has none, or (`TooLargeError`) has more than `max_voxels`.
    """
    voxels = read_npy(source, max_voxels)
    if voxels.ndim != 3:
        raise FileError(source, "is an array of another shape; give one volume of [X, Y, Z]")
    if voxels.dtype.name not in (*TYPES, "float16"):
        raise FileError(source, "contains no plain numbers; give integers or floating point")
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise FileError(source, "has voxels that are NaN or infinite; replace them")
    if voxels.dtype == np.float64 and np.abs(voxels).max() > np.finfo(np.float32).max:
        raise FileError(source, "has voxels that are too large for float32; replace them")
    return Volume(voxels, np.eye(4))


def npy_labels(labels: NDArray[np.uint8], volume: Volume, source: Source | None) -> bytes:
    """A label map's values as the content of a `.npy`; their geometry is that of the volume's own file."""
    file = io.BytesIO()
    np.save(file, labels, allow_pickle=False)
    return file.getvalue()


def read_npy_header(file: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order (True for Fortran's) and type of an array; the file is then at its first value.

    Raises:
        ValueError: It is no `.npy`, or its header is too long.
    """
    try:
        version = npy_format.read_magic(file)
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, fortran, dtype = read(file, max_header_size=MAX_HEADER)
    except Exception as error:  # a hostile header makes NumPy's parser raise nearly anything
        raise ValueError(str(error)) from None
    return shape, fortran, dtype


def read_npy(source: Source, max_values: int) -> NDArray[Any]:
    """Read an array, in the byte order of this computer.

    Raises:
        FileError: No `.npy`, truncated, empty, of Python objects, or (`TooLargeError`) of more than `max_values`.
    """
    with open_source(source) as opened:
        content = opened.read()
    file = io.BytesIO(content)
    try:
        shape, fortran, dtype = read_npy_header(file)
    except ValueError:
        raise FileError(source, DAMAGED) from None
    if dtype.hasobject or dtype.fields or dtype.subdtype or not dtype.itemsize or min(shape, default=1) < 1:
        raise FileError(source, "contains no plain numbers or none at all; give an array of integers or floating point")
    count = math.prod(shape)
    if count > max_values:
        raise TooLargeError(source, f"has more than {max_values} values; make it smaller")
    start = file.tell()
    if len(content) - start < count * dtype.itemsize:
        raise FileError(source, DAMAGED)
    values = np.frombuffer(content, dtype=dtype, count=count, offset=start)
    values = values.reshape(shape, order="F" if fortran else "C")
    return values.astype(dtype.newbyteorder("="), copy=False)
