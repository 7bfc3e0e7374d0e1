"""NIfTI volumes: checked before anything big is allocated, copied without the header's free text. Torch-free.

Source of the format: https://nifti.nimh.nih.gov/nifti-1 (and nifti-2). Where a header has both transforms, the sform
applies.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from medloop.imaging.files import DAMAGED, UNKNOWN, FileError, Source, TooLargeError, Volume, open_source, read_start

MAX_VOXELS = 2**29
"""Largest volume (512 x 512 x 2048): more is a damaged header."""
MAX_EXTENSIONS = 2**24
"""Bytes between header and voxels."""
MAX_TRAILING = 2**24
"""Bytes after the voxels, decompressed: more is a decompression bomb, or voxels that the header doesn't specify."""
MAX_DEFLATE_RATIO = 1032
"""zlib.net/zlib_tech.html: the highest ratio of a deflate stream."""
SINGLE_FILE = b"n+"
"""Beginning of the header's magic where header and voxels share a file."""
TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
FREE_TEXT = ("descrip", "aux_file", "intent_name", "db_name", "data_type", "unused_str")
"""Header fields of either version with free text from an operator or an exporter."""
GEOMETRY = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z"),
)
"""Header fields of either version that, with pixdim and the units, specify positions of voxels."""
SPATIAL_UNIT = 7
"""The bits of xyzt_units for the unit of lengths."""
MILLIMETRES = {"mm": 1.0, "meter": 1e3, "micron": 1e-3, UNKNOWN: 1.0}
"""In one unit, by its name in NIfTI; where the header specifies none, its numbers are unchanged."""
_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
GZIP = b"\x1f\x8b"
FIRST_BYTES = tuple(size.to_bytes(4, order) for size in _HEADERS for order in ("little", "big"))
"""First bytes of a file that isn't compressed: the header's size."""
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
    header, body = _read(path, max_voxels)
    stored = np.frombuffer(body, dtype=header.get_data_dtype()).reshape(_shape(header), order="F")
    voxels = _scaled(path, header, stored)
    if not np.isfinite(voxels).all():
        raise FileError(path, "has voxels that are NaN or infinite; replace them or remove the file")
    if voxels.dtype.itemsize == 8 and np.abs(voxels).max() > np.finfo(np.float32).max:
        raise FileError(path, "has voxels that are too large for float32; replace them or remove the file")
    return Volume(voxels, _affine(header), _unit(header))


def read_nifti_header(path: Source) -> Volume:
    """Read a volume's shape, affine and unit as `read_nifti` does; its voxels are zeros that take no memory.

    Raises:
        FileError: The header can't be used.
    """
    header = _read_header(path)
    return Volume(np.broadcast_to(np.uint8(0), _shape(header)), _affine(header), _unit(header))


def _unit(header: Any) -> str:
    """The unit of the header's own lengths."""
    try:
        return str(header.get_xyzt_units()[0])
    except KeyError:  # a code that the format doesn't have
        return UNKNOWN


def _affine(header: Any) -> NDArray[np.float64]:
    """Voxel index to mm; to the header's own lengths where it specifies no unit."""
    affine = np.array(header.get_best_affine(), dtype=np.float64)
    affine[:3] *= MILLIMETRES[_unit(header)]
    return affine


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
        kind = nib.Nifti1Image if max(labels.shape) <= MAX_NIFTI1_EDGE else nib.Nifti2Image
        image = kind(labels, volume.affine)
        image.header.set_xyzt_units(UNKNOWN if volume.unit == UNKNOWN else "mm")
        return gzip_bytes(image.to_bytes())
    original = _read_header(source)
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
    header, body = _read(source)
    clean = header.copy()
    for field in FREE_TEXT:
        if field in clean.keys():  # noqa: SIM118 (a header is no mapping)
            clean[field] = b""
    clean["dim"][0] = 3
    clean.set_data_offset(len(header.binaryblock) + 4)
    write_gzip(target, clean.binaryblock + bytes(4) + body)


def write_nifti(path: Path, voxels: NDArray[Any], affine: NDArray[np.float64], unit: str = "mm") -> None:
    """Write a NIfTI-1 volume (`.nii.gz`) with empty text fields; the same volume gives the same bytes.

    Args:
        path: Its folder is made where it is missing.
        voxels: [X, Y, Z], stored in its own type.
        affine: Voxel index to mm, 4x4; written as the sform and, as far as it can be, the qform.
        unit: `unknown` where the affine's lengths have no known unit; any other is mm.
    """
    image = nib.Nifti1Image(voxels, affine, dtype=voxels.dtype)
    image.header.set_xyzt_units(UNKNOWN if unit == UNKNOWN else "mm")
    write_gzip(path, image.to_bytes())


def write_gzip(path: Path, content: bytes) -> None:
    """Compress without a file name or a time in the gzip header; the folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip_bytes(content))


def gzip_bytes(content: bytes) -> bytes:
    """Compress without a file name or a time."""
    return gzip.compress(content, compresslevel=6, mtime=0)


def _read_header(path: Source) -> Any:
    """The checked header; the voxels are not looked at."""
    try:
        with _open(path) as file:
            header = _parse_header(path, file.read(544))
    except (OSError, EOFError, zlib.error):
        raise FileError(path, DAMAGED) from None
    _check_header(path, header)
    return header


def _read(path: Source, max_voxels: int = MAX_VOXELS) -> tuple[Any, bytes]:
    """The checked header and the voxels' bytes."""
    try:
        with _open(path) as file:
            header = _parse_header(path, file.read(544))
            _check_header(path, header, max_voxels)
            start = int(header.get_data_offset())
            size = int(np.prod(_shape(header), dtype=np.int64)) * header.get_data_dtype().itemsize
            _check_size(path, start + size)
            file.seek(start)
            body = file.read(size)
            # To the end, so that a compressed file's checksum is verified.
            trailing = 0
            while chunk := file.read(2**20):
                trailing += len(chunk)
                if trailing > MAX_TRAILING:
                    raise FileError(path, "contains much more than its header specifies; save it again or remove it")
    except (OSError, EOFError, zlib.error):
        raise FileError(path, DAMAGED) from None
    if len(body) < size:
        raise FileError(path, DAMAGED)
    return header, body


def _open(path: Source) -> BinaryIO:
    if read_start(path, 2) != GZIP:
        return open_source(path)
    return cast(BinaryIO, gzip.open(path if isinstance(path, Path) else open_source(path), "rb"))


def _parse_header(path: Source, start: bytes) -> Any:
    sizes = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    kind = next((_HEADERS[size] for size in sizes if size in _HEADERS), None)
    if kind is None:
        raise FileError(path, "is no NIfTI file, despite its name; replace or remove it")
    length = kind.template_dtype.itemsize
    if len(start) < length:
        raise FileError(path, DAMAGED)
    try:
        return kind(start[:length], check=False)
    except HeaderDataError:
        raise FileError(path, DAMAGED) from None


def _check_header(path: Source, header: Any, max_voxels: int = MAX_VOXELS) -> None:
    if not bytes(header["magic"]).startswith(SINGLE_FILE):
        raise FileError(path, "is half of a header/image pair; save the volume as one .nii.gz file")
    dims = [int(edge) for edge in header["dim"]]
    if not 3 <= dims[0] <= 7 or min(dims[1 : dims[0] + 1]) < 1:
        raise FileError(path, f"has {dims[0]} dimensions or an empty one; give one 3D volume")
    if any(edge != 1 for edge in dims[4 : dims[0] + 1]):
        raise FileError(path, f"has {dims[0]} dimensions; give one 3D volume")
    if int(np.prod(dims[1:4], dtype=object)) > max_voxels:
        raise TooLargeError(path, f"its header specifies more than {max_voxels} voxels; save it again or remove it")
    if not _known_type(header):
        raise FileError(path, "its voxels are no plain numbers (complex, colour or unknown); save them as float32")
    if not 0 <= float(header["vox_offset"]) <= MAX_EXTENSIONS:
        raise FileError(path, DAMAGED)
    _check_geometry(path, header)


def _known_type(header: Any) -> bool:
    try:
        return header.get_data_dtype().newbyteorder("=").name in TYPES
    except (HeaderDataError, KeyError):
        return False


def _check_geometry(path: Source, header: Any) -> None:
    """The voxel-to-world transform and the voxel sizes must be finite, and the transform invertible."""
    edges = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError):
        affine = np.zeros((4, 4))
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    usable = np.isfinite(affine).all() and np.isfinite(edges).all() and (edges > 0).all() and (lengths > 0).all()
    if not usable or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise FileError(path, "its geometry (pixdim, sform, qform) is not usable; save it again with voxel sizes")


def _check_size(path: Source, needed: int) -> None:
    """Refuse a header that specifies more than the file can contain, before memory is allocated."""
    size = path.stat().st_size if isinstance(path, Path) else len(path.content)
    if size * (MAX_DEFLATE_RATIO if read_start(path, 2) == GZIP else 1) < needed:
        raise FileError(path, DAMAGED)


def _shape(header: Any) -> tuple[int, int, int]:
    x, y, z = (int(edge) for edge in header["dim"][1:4])
    return x, y, z


def _scaled(path: Source, header: Any, stored: NDArray[Any]) -> NDArray[Any]:
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError:
        raise FileError(path, "its scale (scl_slope, scl_inter) is not usable; save it again") from None
    if slope is None or (slope == 1 and not intercept):
        return stored
    scaled: NDArray[Any] = stored.astype(np.float64) * slope + (intercept or 0.0)
    return scaled
