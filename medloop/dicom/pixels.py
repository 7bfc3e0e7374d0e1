"""Pixels of DICOM files: checked against the header before they are decoded. Torch-free."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.dicom.codestreams import coded_size
from medloop.dicom.elements import integer
from medloop.dicom.files import read_dataset
from medloop.imaging.files import FileError, TooLargeError

PIXEL_TAGS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "FloatPixelData"),
    *("DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *("RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor"),
    *("BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData"),
    *("BluePaletteColorLookupTableData", "SegmentedRedPaletteColorLookupTableData"),
    *("SegmentedGreenPaletteColorLookupTableData", "SegmentedBluePaletteColorLookupTableData"),
)
MAX_BYTES = 4 << 30
"""Decoded pixels of a file."""


def read_with_pixels(path: Path, tags: Sequence[str] = ()) -> Any:
    """Read a file's pixels, undecoded, and some further elements.

    Raises:
        FileError: See `read_dataset`.
    """
    return read_dataset(path, [*PIXEL_TAGS, *tags], pixels=True)


def decode(path: Path, dataset: Any) -> NDArray[Any]:
    """Decode all frames as stored; colour becomes RGB.

    Returns:
        [frames, rows, columns] or [frames, rows, columns, 3].

    Raises:
        FileError: There are no pixels, they don't fit the header, or (`TooLargeError`) they are too many.
    """
    from pydicom.pixels import pixel_array

    num = _check_size(path, dataset)
    _check_frames(path, dataset, num)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels: NDArray[Any] = np.asarray(pixel_array(dataset))
    except Exception as error:  # Decoders raise what they meet.
        raise FileError(path, _describe(dataset, error)) from None
    return pixels if num > 1 else pixels[None]


def _check_size(path: Path, dataset: Any) -> int:
    """Compare the header with the bytes that are there, before memory is allocated.

    Returns:
        The number of frames.
    """
    rows, columns, num = integer(dataset, "Rows"), integer(dataset, "Columns"), integer(dataset, "NumberOfFrames", 1)
    bits = integer(dataset, "BitsAllocated") * integer(dataset, "SamplesPerPixel", 1)
    num = max(1, num)
    name = next((name for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if name in dataset), None)
    if not rows or not columns or name is None:
        raise FileError(path, "has no pixels (PixelData, Rows, Columns); remove it")
    needed = rows * columns * num * bits // 8
    if needed > MAX_BYTES:
        text = f"its header specifies {needed} bytes of pixels (Rows, Columns, NumberOfFrames), more than"
        raise TooLargeError(path, f"{text} {MAX_BYTES >> 30} GiB; export it again or remove it")
    present = len(dataset[name].value)
    if not _is_compressed(dataset) and present < needed:
        raise FileError(
            path, f"is truncated: its header specifies {needed} bytes of pixels, and it has {present}; copy it again"
        )
    return num


def _check_frames(path: Path, dataset: Any, num: int) -> None:
    """Refuse compressed frames of another size than the header's, before they are decoded."""
    if not _is_compressed(dataset):
        return
    from pydicom.encaps import generate_frames

    rows, columns = integer(dataset, "Rows"), integer(dataset, "Columns")
    try:
        frames = generate_frames(dataset.PixelData, number_of_frames=num)
        sizes = {size for frame in frames if (size := coded_size(frame))}
    except Exception:  # A malformed encapsulation fails anywhere in pydicom.
        raise FileError(path, "its compressed pixels are damaged; export it again or remove it") from None
    if different := sizes - {(rows, columns)}:
        height, width = different.pop()
        text = f"its compressed pixels have {height} rows and {width} columns, and its header says {rows} and {columns}"
        raise FileError(path, f"{text}; export it again or remove it")


def _is_compressed(dataset: Any) -> bool:
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    return bool(syntax is not None and not syntax.is_private and syntax.is_compressed)


def _describe(dataset: Any, error: Exception) -> str:
    """The reason for which pixels can't be decoded, without values of the file."""
    syntax: Any = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    if isinstance(error, NotImplementedError | RuntimeError) and "ecod" in str(error) and "missing" in str(error):
        return f"is compressed as {syntax.name}, for which there is no decoder; save it uncompressed"
    name = f" ({syntax.name})" if _is_compressed(dataset) else ""
    return f"its pixels can't be decoded{name}: they are damaged, or don't fit the header; export it again or remove it"
