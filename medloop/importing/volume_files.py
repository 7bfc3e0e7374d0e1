"""Volumes of a source, in the formats that imports read: NIfTI, MetaImage, NRRD. Torch-free."""

from __future__ import annotations

import gzip
import zlib
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

import numpy as np

from medloop.imaging.files import DAMAGED, FileError, Volume, read_start
from medloop.imaging.formats import VOLUME_SUFFIXES, find_suffix, read_volume
from medloop.imaging.nifti import GZIP, MAX_DEFLATE_RATIO, write_gzip, write_nifti
from medloop.imaging.nifti_header import (
    HEADER_BYTES,
    check_header,
    first_offset,
    parse_header,
    read_geometry,
    voxel_bytes,
)
from medloop.importing.itk_volumes import ITK_ENDS, count_channels, read_itk
from medloop.importing.source_files import link_file

_MAX_CHANNELS = 64


def is_itk(path: Path) -> bool:
    """True if ITK reads the file."""
    return path.name.lower().endswith(ITK_ENDS)


def num_channels(path: Path) -> int:
    """The number of a volume's channels, from its header.

    Args:
        path: The file.

    Raises:
        FileError: The header can't be used.
    """
    if is_itk(path):
        return count_channels(path)
    with _open(path) as file:
        header = _parse(path, file)
    return _channels_of(path, header)


def read_source_volume(path: Path) -> Volume:
    """Read a volume of one channel.

    Raises:
        FileError: It can't be used.
    """
    return read_itk(path) if is_itk(path) else read_volume(path)


def write_image(source: Path, folder: Path, stem: str, channel: int | None) -> None:
    """Give a data set a volume: by a link where it is NIfTI of one channel, else as `.nii.gz` with equal voxels.

    Args:
        source: The file.
        folder: The subject's.
        stem: Of its name in the folder.
        channel: Of a volume with several.

    Raises:
        FileError: It can't be used.
    """
    if is_itk(source):
        volume = read_itk(source, channel)
        write_nifti(folder / f"{stem}.nii.gz", volume.voxels, volume.affine, volume.unit, fast=True)
    elif channel is None:
        link_file(source, folder / f"{stem}{find_suffix(source.name, VOLUME_SUFFIXES) or '.nii.gz'}")
    else:
        _copy_channel(source, folder / f"{stem}.nii.gz", channel)


def _copy_channel(source: Path, target: Path, channel: int) -> None:
    """Copy one channel of a NIfTI file: the bytes of its voxels, and the header's geometry, types and scale."""
    try:
        with _open(source) as file:
            header = _parse(source, file)
            number = _channels_of(source, header)
            if channel >= number:
                raise FileError(source, f"has {number} channels (dim), and --channel is number {channel}")
            plain = _one_channel(header)
            check_header(source, plain)
            read_geometry(source, plain)
            size = voxel_bytes(plain)
            file.seek(first_offset(header) + channel * size)
            body = file.read(size)
    except (OSError, EOFError, zlib.error):
        raise FileError(source, DAMAGED) from None
    if len(body) < size:
        raise FileError(source, DAMAGED)
    plain.set_data_offset(len(plain.binaryblock) + 4)
    write_gzip(target, plain.binaryblock + bytes(4) + body, fast=True)


def _one_channel(header: Any) -> Any:
    plain = header.copy()
    plain["dim"] = [3, *header["dim"][1:4], 1, 1, 1, 1]
    plain["magic"] = plain.single_magic
    return plain


def _channels_of(path: Path, header: Any) -> int:
    """Length of the axis after the first three that is longer than one."""
    dims = [int(edge) for edge in header["dim"]]
    further = [edge for edge in dims[4 : dims[0] + 1] if edge != 1]
    if len(further) > 1 or any(not 0 < edge <= _MAX_CHANNELS for edge in further):
        raise FileError(path, f"has axes {further} after the first three (dim); give one volume, or one with channels")
    number = further[0] if further else 1
    size = path.stat().st_size * (MAX_DEFLATE_RATIO if read_start(path, 2) == GZIP else 1)
    if number * int(np.prod(dims[1:4], dtype=object)) > size:
        raise FileError(path, DAMAGED)
    return number


def _parse(path: Path, file: BufferedIOBase) -> Any:
    try:
        return parse_header(path, file.read(HEADER_BYTES))
    except (OSError, EOFError, zlib.error):
        raise FileError(path, DAMAGED) from None


def _open(path: Path) -> BufferedIOBase:
    try:
        with path.open("rb") as file:
            is_packed = file.read(2) == GZIP
        return cast(BufferedIOBase, gzip.open(path, "rb")) if is_packed else path.open("rb")
    except OSError as error:
        raise FileError(path, f"can't be read ({error.strerror}); check its permissions") from None
