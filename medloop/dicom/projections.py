"""2D images of DICOM as PNG: 16 bit grey as a viewer shows it, 8 bit colour. Torch-free."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medloop.dicom.elements import first_item, integer, number, text
from medloop.dicom.pixels import decode, read_with_pixels
from medloop.imaging.files import FileError, TooLargeError
from medloop.imaging.pictures import MAX_PIXELS

_TAGS = (
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "PresentationLUTShape"),
)
HIGHEST = 65535


def write_png(source: Path, frame: int, target: Path) -> None:
    """Write a frame as PNG.

    Grey values pass the modality LUT, the first VOI LUT or window, and are inverted for MONOCHROME1 (PS3.3
    C.7.6.3.1.2). Without a VOI LUT or window, the range that the pixels can have is stretched to 16 bit, regardless of
    the values that occur.

    Raises:
        FileError: The file can't be decoded.
    """
    dataset = read_with_pixels(source, _TAGS)
    if integer(dataset, "Rows") * integer(dataset, "Columns") > MAX_PIXELS:
        raise TooLargeError(source, f"has more than {MAX_PIXELS} pixels (Rows, Columns); export it smaller")
    frames = decode(source, dataset)
    if frame >= len(frames):
        raise FileError(source, "has fewer frames than NumberOfFrames; export it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = _displayed(frames[frame], dataset)
    except Exception:  # A malformed table fails anywhere in pydicom.
        raise FileError(source, "its look-up tables can't be applied; export it again") from None
    Image.fromarray(pixels).save(target, format="PNG")


def _displayed(pixels: NDArray[Any], dataset: Any) -> NDArray[Any]:
    """Grey values [H, W] in uint16, or colours [H, W, 3] in uint8."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut

    photometric = text(dataset, "PhotometricInterpretation").upper()
    if photometric == "PALETTE COLOR":
        pixels = np.asarray(apply_color_lut(pixels, dataset))
    if pixels.ndim == 3:
        return pixels if pixels.dtype == np.uint8 else (pixels >> (8 * (pixels.dtype.itemsize - 1))).astype(np.uint8)
    values = np.asarray(apply_modality_lut(pixels, dataset))
    shares = _window(values, dataset)
    if shares is None:
        low, high = _possible_range(dataset)
        shares = (values - low) / (high - low)
    if photometric == "MONOCHROME1":
        shares = 1 - shares
    return np.asarray(np.rint(np.clip(shares, 0, 1) * HIGHEST).astype(np.uint16))


def _possible_range(dataset: Any) -> tuple[float, float]:
    """The values that the pixels can have after the modality LUT."""
    if table := first_item(dataset, "ModalityLUTSequence"):
        return 0, 2.0 ** int(table["LUTDescriptor"].value[2]) - 1
    bits = integer(dataset, "BitsStored") or integer(dataset, "BitsAllocated", 16)
    low = -(2.0 ** (bits - 1)) if integer(dataset, "PixelRepresentation") else 0.0
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept") or 0.0
    ends = sorted(value * (1.0 if slope is None else slope) + intercept for value in (low, low + 2.0**bits - 1))
    return ends[0], ends[1]


def _window(values: NDArray[Any], dataset: Any) -> NDArray[Any] | None:
    """Brightness from 0 to 1 by the VOI LUT or the first window (PS3.3 C.11.2.1.2); None without one."""
    from pydicom.pixels import apply_voi

    if table := first_item(dataset, "VOILUTSequence"):
        return np.asarray(apply_voi(values, dataset)) / (2.0 ** int(table["LUTDescriptor"].value[2]) - 1)
    center, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    if center is None or width is None:
        return None
    kind = text(dataset, "VOILUTFunction").upper()
    if kind == "SIGMOID" and width > 0:
        return np.asarray(1 / (1 + np.exp(-4 * (values - center) / width)))
    if kind == "LINEAR_EXACT" and width > 0:
        return np.asarray((values - center) / width + 0.5)
    return np.asarray((values - (center - 0.5)) / (width - 1) + 0.5 if width > 1 else values > center - 0.5)


def _first(dataset: Any, keyword: str) -> float | None:
    """The first of an element's values."""
    try:
        return float(text(dataset, keyword).split("\\")[0])
    except ValueError:
        return None
