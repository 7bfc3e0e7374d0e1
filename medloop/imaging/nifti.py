"""NIfTI volumes: checked before anything big is allocated, copied without the header's free text. Torch-free."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import replace
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from medloop.imaging.files import DAMAGED, UNKNOWN, FileError, Source, Volume, load_small, open_source, read_start
from medloop.imaging.nifti_header import (
    FLAG,
    HEADER_BYTES,
    MAX_VOXELS,
    SPATIAL_UNIT,
    Geometry,
    check_header,
    first_offset,
    parse_header,
    read_geometry,
    shape_of,
    slope_and_intercept,
    start_of_voxels,
    voxel_bytes,
)

MAX_TRAILING = 2**24
"""Bytes after the voxels, decompressed: more is a decompression bomb, or voxels that the header doesn't specify."""
MAX_DEFLATE_RATIO = 1032
"""zlib.net/zlib_tech.html: the highest ratio of a deflate stream."""
CHUNK = 2**20
FREE_TEXT = ("descrip", "aux_file", "intent_name", "db_name", "data_type", "unused_str")
"""Header fields of either version with free text from an operator or an exporter."""
GEOMETRY = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z"),
)
"""Header fields of either version that, with pixdim and the units, specify positions of voxels."""
GZIP = b"\x1f\x8b"
MAX_NIFTI1_EDGE = 32767


def read_nifti(path: Source, max_voxels: int = MAX_VOXELS) -> Volume:
    """Read a `.nii` or `.nii.gz`; axes of length one after the third are dropped.

    Args:
        path: The file, or its content.
        max_voxels: More are refused before memory is allocated for them.

    Raises:
        FileError: No NIfTI, truncated, not 3D, of a type without grey values, without a usable geometry, with
            voxels that are not finite, or (`TooLargeError`) with more than `max_voxels`.
    """
    header, geometry, body = _read(path, max_voxels)
    stored = np.frombuffer(body, dtype=header.get_data_dtype()).reshape(shape_of(header), order="F")
    slope, intercept = slope_and_intercept(path, header)
    voxels = stored if (slope, intercept) == (1, 0) else stored.astype(np.float64) * slope + intercept
    _check_voxels(path, voxels)
    return _volume(voxels, geometry)


def _check_voxels(path: Source, voxels: NDArray[Any]) -> None:
    """Refuse values that float32, in which training computes, doesn't have."""
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise FileError(path, "has voxels that are NaN or infinite; replace them or remove the file")
    if voxels.dtype.kind == "f" and voxels.dtype.itemsize == 8:
        largest = max(abs(float(voxels.min())), abs(float(voxels.max())))
        if largest > float(np.finfo(np.float32).max):
            raise FileError(path, "has voxels that are too large for float32; replace them or remove the file")
        if 0 < largest < float(np.finfo(np.float32).tiny):
            raise FileError(
                path, f"has voxels of {largest:.1g} at most, too small for float32; correct scl_slope or their unit"
            )


def read_nifti_header(path: Source) -> Volume:
    """Read a volume's shape, affine and unit as `read_nifti` does; its voxels are zeros that take no memory.

    Raises:
        FileError: The header can't be used.
    """
    header, geometry = _read_header(path)
    return _volume(np.broadcast_to(np.uint8(0), shape_of(header)), geometry)


def _volume(voxels: NDArray[Any], geometry: Geometry) -> Volume:
    return Volume(voxels, geometry.affine, geometry.unit, geometry.qform, geometry.warnings, geometry.unused)


def nifti_labels(labels: NDArray[np.uint8], volume: Volume, source: Source | None) -> bytes:
    """A label map as the content of a `.nii.gz`.

    Args:
        labels: [X, Y, Z], in the order of the volume's axes.
        volume: What was segmented.
        source: The volume's file where that is NIfTI: its geometry's fields are copied bit by bit, and nothing else.

    Raises:
        FileError: The source's header can't be used.
    """
    if source is None:
        import nibabel as nib

        kind = nib.Nifti1Image if max(labels.shape) <= MAX_NIFTI1_EDGE else nib.Nifti2Image
        image = kind(labels, volume.affine)
        image.header.set_xyzt_units(UNKNOWN if volume.unit == UNKNOWN else "mm")
        return gzip_bytes(image.to_bytes())
    original, _ = _read_header(source)
    header = type(original)()
    for field in GEOMETRY:
        header[field] = original[field]
    header["dim"] = [3, *labels.shape, 1, 1, 1, 1]
    header["pixdim"] = [*original["pixdim"][:4], 1, 1, 1, 1]
    header["xyzt_units"] = int(original["xyzt_units"]) & SPATIAL_UNIT
    header.set_data_dtype(np.uint8)
    header["scl_slope"] = 1
    header.set_data_offset(len(header.binaryblock) + 4)
    return gzip_bytes(header.binaryblock + bytes(4) + labels.tobytes(order="F"))


def copy_nifti(source: Source, target: Path) -> None:
    """Copy a volume as `.nii.gz` with its geometry and voxel bytes, without free text, extensions and trailing bytes.

    Raises:
        FileError: As `read_nifti`, except for the voxels' values, which are not checked.
    """
    header, _, body = _read(source)
    clean = header.copy()
    for field in FREE_TEXT:
        if field in clean.keys():  # noqa: SIM118 (a header is no mapping)
            clean[field] = b""
    clean["dim"][0], clean["magic"] = 3, clean.single_magic
    clean.set_data_offset(len(header.binaryblock) + 4)
    write_gzip(target, clean.binaryblock + bytes(4) + body)


def write_nifti(
    path: Path, voxels: NDArray[Any], affine: NDArray[np.float64], unit: str = "mm", *, fast: bool = False
) -> None:
    """Write a NIfTI-1 volume (`.nii.gz`) with empty text fields; the same volume gives the same bytes.

    Args:
        path: Its folder is made where it is missing.
        voxels: [X, Y, Z], stored in its own type.
        affine: Voxel index to mm, 4x4; written as the sform and, as far as it can be, the qform.
        unit: `unknown` where the affine's lengths have no known unit; any other is mm.
        fast: Compress in a fraction of the time, and a little less.
    """
    import nibabel as nib

    image = nib.Nifti1Image(voxels, affine, dtype=voxels.dtype)
    image.header.set_xyzt_units(UNKNOWN if unit == UNKNOWN else "mm")
    write_gzip(path, image.to_bytes(), fast=fast)


def write_gzip(path: Path, content: bytes, *, fast: bool = False) -> None:
    """Compress without a file name or a time in the gzip header; the folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_gzip_fast(content) if fast else gzip_bytes(content))


def _gzip_fast(content: bytes) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.gzip_encode(content, level=1))


def gzip_bytes(content: bytes) -> bytes:
    """Compress without a file name or a time."""
    return gzip.compress(content, compresslevel=6, mtime=0)


def _read_header(path: Source) -> tuple[Any, Geometry]:
    """The checked header; the voxels are not looked at."""
    path = load_small(path)
    try:
        with _open(path) as file:
            header = parse_header(path, file.read(HEADER_BYTES))
    except (OSError, EOFError, zlib.error):
        raise FileError(path, DAMAGED) from None
    check_header(path, header)
    return header, read_geometry(path, header)


def _read(path: Source, max_voxels: int = MAX_VOXELS) -> tuple[Any, Geometry, bytes]:
    """The checked header and the voxels' bytes."""
    path = load_small(path)
    try:
        with _open(path) as file:
            header = parse_header(path, file.read(HEADER_BYTES))
            check_header(path, header, max_voxels)
            geometry = read_geometry(path, header)
            body, num_following = _read_voxels(path, file, header)
            warnings = (*geometry.warnings, *_odd_length(header, num_following))
            return header, replace(geometry, warnings=warnings), body
    except (OSError, EOFError, zlib.error):
        raise FileError(path, DAMAGED) from None


def _odd_length(header: Any, num_following: int) -> Iterator[str]:
    """Describe bytes after the voxels that may be further ones: as many as those of a slice."""
    x, y, _ = shape_of(header)
    if num_following >= x * y * header.get_data_dtype().itemsize:
        yield (
            f"contains {num_following} bytes after the {voxel_bytes(header)} that its header specifies (dim, "
            "datatype), and they are not read; check that no slice or channel is lost"
        )


def _read_voxels(path: Source, file: BufferedIOBase, header: Any) -> tuple[bytes, int]:
    """The voxels' bytes, and the number of those that follow.

    The rest of the file is read too, so that a compressed file's checksum is verified.
    """
    size = voxel_bytes(header)
    offset = first_offset(header)
    _check_size(path, offset + size)
    file.seek(offset)
    body = file.read(size)
    if len(body) < size:
        raise FileError(
            path,
            f"is truncated or damaged: its header (dim, datatype, vox_offset) specifies {size} bytes of voxels, and it "
            f"has {len(body)}; copy it again or remove it",
        )
    following, number = _read_rest(path, file)
    start = start_of_voxels(path, header, offset + size + number)
    return (body if start == offset else (body + following)[start - offset :][:size]), number


def _read_rest(path: Source, file: BufferedIOBase) -> tuple[bytes, int]:
    """Read to the end.

    Returns:
        The first FLAG bytes, and the number of all.

    Raises:
        FileError: They are too many.
    """
    first, number = b"", 0
    try:
        # Single reads: what precedes bytes that are no gzip stream is not lost with the error.
        while chunk := file.read1(CHUNK):
            first += chunk[: FLAG - len(first)]
            number += len(chunk)
            if number > MAX_TRAILING:
                raise FileError(path, "contains much more than its header (dim) specifies; save it again or remove it")
    except gzip.BadGzipFile:
        # gzip's reader takes a wrong checksum and bytes after the last stream for one error.
        if not _has_garbage_at_the_end(path):
            raise
    return first, number


def _has_garbage_at_the_end(path: Source) -> bool:
    """True if bytes of no gzip stream follow complete streams, of the right checksums; gzip ignores them, too.

    Raises:
        zlib.error: A stream is damaged.
    """
    with open_source(path) as file:
        data = file.read(CHUNK)
        while data.startswith(GZIP):
            stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            while not stream.eof:
                if not data:
                    return False
                stream.decompress(data, CHUNK)
                data = stream.unconsumed_tail or (b"" if stream.eof else file.read(CHUNK))
            data = stream.unused_data or file.read(CHUNK)
    return bool(data)


def _open(path: Source) -> BufferedIOBase:
    if read_start(path, 2) != GZIP:
        return cast(BufferedIOBase, open_source(path))
    return gzip.open(path if isinstance(path, Path) else open_source(path), "rb")


def _check_size(path: Source, needed: int) -> None:
    """Refuse a header that specifies more than the file can contain, before memory is allocated."""
    size = path.stat().st_size if isinstance(path, Path) else len(path.content)
    if size * (MAX_DEFLATE_RATIO if read_start(path, 2) == GZIP else 1) < needed:
        raise FileError(
            path,
            f"is truncated or damaged: its header (dim, datatype, vox_offset) specifies {needed} bytes, and it has "
            f"{size}; copy it again or remove it",
        )
