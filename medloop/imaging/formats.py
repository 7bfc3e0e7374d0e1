"""Formats of image files, one row each, which all other code reads. Torch-free.

To add a format whose unit is one file: write its reader and add a row (docs/extending.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from medloop.documents.split import Task
from medloop.imaging import nifti, npy, tiff
from medloop.imaging.files import FileError, Source, Volume, load_small, read_start
from medloop.imaging.nifti_header import FIRST_BYTES, MAX_VOXELS
from medloop.imaging.pictures import MAX_PIXELS, pillow_reader

Pixels = NDArray[Any]
Content = TypeVar("Content", NDArray[Any], Volume)


@dataclass(frozen=True)
class Format(Generic[Content]):
    """A format of image files.

    Args:
        name: In messages.
        suffixes: Of file names, in lower case, the usual one first.
        magic: First bytes; every file begins with one of them.
        media_types: Content types that a model version is registered with; the first is what clients send.
        read: (source, most pixels or voxels) to the content; raises FileError.
        other_media_types: Content types that endpoints take too.
        in_datasets: True if data sets may contain it; else only endpoints take it.
    """

    name: str
    suffixes: tuple[str, ...]
    magic: tuple[bytes, ...]
    media_types: tuple[str, ...]
    read: Callable[[Source, int], Content]
    other_media_types: tuple[str, ...] = ()
    in_datasets: bool = True

    def has_media_type(self, media_type: str) -> bool:
        """True if a content type, in lower case, names this format."""
        return media_type in self.media_types or media_type in self.other_media_types


@dataclass(frozen=True)
class VolumeFormat(Format[Volume]):
    """A format of 3D volumes.

    Args:
        has_geometry: True if a file specifies its voxels' size and orientation.
        read_header: Reads all but the voxels, which are zeros; None where that is no cheaper than `read`.
        copy: Copies a file as `.nii.gz` with its voxels' bytes unchanged and without free text; None writes what
            `read` gives.
        write_labels: (labels, the volume that was segmented, its source where that has this format) to a file's
            content; None where endpoints don't respond in this format.
    """

    has_geometry: bool = True
    read_header: Callable[[Source], Volume] | None = None
    copy: Callable[[Source, Path], None] | None = None
    write_labels: Callable[[NDArray[np.uint8], Volume, Source | None], bytes] | None = None


IMAGE_FORMATS: tuple[Format[Pixels], ...] = (
    Format("PNG", (".png",), (b"\x89PNG\r\n\x1a\n",), ("image/png",), pillow_reader("PNG")),
    Format(
        "JPEG",
        (".jpg", ".jpeg", ".jpe", ".jfif"),
        (b"\xff\xd8\xff",),
        ("image/jpeg",),
        pillow_reader("JPEG"),
        ("image/jpg",),
    ),
    Format("WebP", (".webp",), (b"RIFF",), ("image/webp",), pillow_reader("WEBP")),
    Format("BMP", (".bmp",), (b"BM",), ("image/bmp",), pillow_reader("BMP"), ("image/x-ms-bmp", "image/x-bmp")),
    Format("TIFF", (".tif", ".tiff"), tiff.MAGIC, ("image/tiff",), tiff.read_tiff),
    Format("npy", (".npy",), (npy.MAGIC,), (npy.MEDIA_TYPE,), npy.read_npy_image, in_datasets=False),
)
"""Formats of 2D images."""
VOLUME_FORMATS: tuple[VolumeFormat, ...] = (
    VolumeFormat(
        "NIfTI", (".nii.gz", ".nii"), (nifti.GZIP, *FIRST_BYTES), ("application/x-nifti", "application/gzip"),
        nifti.read_nifti, ("application/nifti", "application/x-gzip"),
        read_header=nifti.read_nifti_header, copy=nifti.copy_nifti, write_labels=nifti.nifti_labels,
    ),
    VolumeFormat(
        "npy", (".npy",), (npy.MAGIC,), (npy.MEDIA_TYPE,), npy.read_npy_volume,
        in_datasets=False, has_geometry=False, write_labels=npy.npy_labels,
    ),
)  # fmt: skip
"""Formats of 3D volumes. The first is the default of endpoints' responses."""
FORMATS: dict[Task, tuple[Format[Any], ...]] = {"classification": IMAGE_FORMATS, "segmentation": VOLUME_FORMATS}
ALL_FORMATS: tuple[Format[Any], ...] = (*IMAGE_FORMATS, *VOLUME_FORMATS)


def dataset_suffixes(formats: Iterable[Format[Any]]) -> tuple[str, ...]:
    """The suffixes of files in data sets."""
    return tuple(suffix for form in formats if form.in_datasets for suffix in form.suffixes)


IMAGE_SUFFIXES, VOLUME_SUFFIXES = dataset_suffixes(IMAGE_FORMATS), dataset_suffixes(VOLUME_FORMATS)


def usual_suffixes(task: Task) -> str:
    """The usual suffix of each format in a task's data sets, as `.png or .jpg`."""
    return " or ".join(form.suffixes[0] for form in FORMATS[task] if form.in_datasets)


def find_suffix(name: str, suffixes: Iterable[str]) -> str | None:
    """The longest of the suffixes that a file's name has, in upper or lower case."""
    return max((suffix for suffix in suffixes if name.lower().endswith(suffix)), key=len, default=None)


AnyFormat = TypeVar("AnyFormat", bound=Format[Any])


def recognise(start: bytes, formats: Iterable[AnyFormat]) -> AnyFormat | None:
    """The format of a file by its first bytes."""
    return next((form for form in formats if start.startswith(form.magic)), None)


def read_image(source: Source, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Read an image in any format of data sets, by its first bytes.

    Args:
        source: The file, or its content.
        max_pixels: More are refused before they are decoded.

    Returns:
        [H, W] (grey) or [H, W, 3] (colour), uint8 or uint16.

    Raises:
        FileError: The file can't be used, or (`TooLargeError`) has more than `max_pixels`.
    """
    return read_image_and_format(source, max_pixels)[0]


def read_image_and_format(source: Source, max_pixels: int = MAX_PIXELS) -> tuple[Pixels, str]:
    """Read an image as `read_image` does, with its format's name.

    Raises:
        FileError: See `read_image`.
    """
    source = load_small(source)
    form = _format_of(source, IMAGE_FORMATS)
    return form.read(source, max_pixels), form.name


def read_volume(source: Source, max_voxels: int = MAX_VOXELS) -> Volume:
    """Read a volume in any format of data sets, by its first bytes.

    Args:
        source: The file, or its content.
        max_voxels: More are refused.

    Raises:
        FileError: It is no finite 3D volume with a geometry, or (`TooLargeError`) has more than `max_voxels`.
    """
    source = load_small(source)
    return _format_of(source, VOLUME_FORMATS).read(source, max_voxels)


def read_volume_header(source: Source) -> Volume:
    """Read a volume's shape, affine and unit; its voxels may be zeros.

    Raises:
        FileError: The header can't be used.
    """
    source = load_small(source)
    form = _format_of(source, VOLUME_FORMATS)
    return form.read_header(source) if form.read_header else form.read(source, MAX_VOXELS)


def copy_volume(source: Source, target: Path) -> None:
    """Write a volume as `.nii.gz`, with its geometry and without free text.

    Raises:
        FileError: The volume can't be used.
    """
    source = load_small(source)
    form = _format_of(source, VOLUME_FORMATS)
    if form.copy is not None:
        return form.copy(source, target)
    volume = form.read(source, MAX_VOXELS)
    return nifti.write_nifti(target, volume.voxels, volume.affine, volume.unit)


def _format_of(source: Source, formats: Sequence[AnyFormat]) -> AnyFormat:
    form = recognise(read_start(source), formats)
    if form is None or not form.in_datasets:
        names = " or ".join(form.name for form in formats if form.in_datasets)
        raise FileError(source, f"is no {names} file, despite its name; replace or remove it")
    return form
