"""Headers of NIfTI files, checked for what their fields mean before anything big is allocated. Torch-free.

Source of the format: nifti1.h and nifti2.h, https://nifti.nimh.nih.gov. Readers disagree on headers that the format
doesn't allow; tests/unit/imaging/test_nifti_readers.py lists what nibabel, SimpleITK and this module make of them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.imaging.files import DAMAGED, UNKNOWN, FileError, Source, TooLargeError

Affine = NDArray[np.float64]
MAX_VOXELS = 2**29
"""Largest volume (512 x 512 x 2048): more is a damaged header."""
MAX_EXTENSIONS = 2**24
"""Bytes between header and voxels."""
SINGLE_FILE = b"n+"
"""Beginning of the header's magic where header and voxels share a file."""
PAIR = b"ni"
"""Beginning of the magic of a header/image pair; some programs write it into single files too."""
FLAG = 4
"""Bytes after the header that specify if extensions follow."""
TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
SPATIAL_UNIT = 7
"""The bits of xyzt_units for the unit of lengths."""
MILLIMETRES = {"mm": 1.0, "meter": 1e3, "micron": 1e-3, UNKNOWN: 1.0}
"""In one unit, by its name in NIfTI; where the header specifies none, its numbers are unchanged."""
QUATERNION_EXCESS = 1e-2
"""Squares of quatern_b, c and d add up to 1 at most. Rounding to three decimals exceeds that by less than this."""
QFAC_TOLERANCE = 1e-3
"""Distance of qfac from -1 that is rounding. ITK takes any negative one for -1; nibabel takes what is not -1 for 1."""
SMALLEST_DETERMINANT = 1e-3
"""Of the affine with columns of length 1; below it two axes are the same."""
MAX_EDGE = 100.0
"""Edge of a voxel, in mm, from which the unit is probably wrong: slices are 10 mm thick at most."""
SPACING_TOLERANCE = 1e-2
"""Relative difference of voxel sizes from which the two transforms of a header contradict each other."""
_HEADERS = {348: "Nifti1Header", 540: "Nifti2Header"}
"""Nibabel's classes by the header's size. Nibabel is imported where a volume is read: most commands read none."""
FIRST_BYTES = tuple(size.to_bytes(4, order) for size in _HEADERS for order in ("little", "big"))
"""First bytes of a file that isn't compressed: the header's size."""
HEADER_BYTES = max(_HEADERS) + FLAG
"""Bytes from which any header can be parsed."""
_QFORM = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
RESAVE = "save the volume again with its voxel sizes and orientation"


@dataclass(frozen=True)
class Geometry:
    """Positions of voxels.

    Attributes:
        affine: Voxel index to mm, 4x4; to the header's own lengths where it specifies no unit.
        unit: The unit of the header's lengths.
        qform: The affine of the qform where the sform applies and the header has both; else None.
        warnings: What is odd about the header, each without the file's name.
        unused: (name, affine) of the sform and qform that the header contains with the code 0.
    """

    affine: Affine
    unit: str
    qform: Affine | None = None
    warnings: tuple[str, ...] = ()
    unused: tuple[tuple[str, Affine], ...] = ()


def load_nibabel() -> Any:
    """Import nibabel, without pydicom where that isn't imported yet: it would take longer than nibabel itself.

    Nibabel uses it for header extensions of DICOM alone, which nothing here reads; without it they are bytes.
    """
    if not {"nibabel", "pydicom"} & sys.modules.keys():
        sys.modules["pydicom"] = None  # type: ignore[assignment] # the import system's sign of a module to refuse
        try:
            importlib.import_module("nibabel")
        finally:
            del sys.modules["pydicom"]
    return importlib.import_module("nibabel")


def parse_header(path: Source, start: bytes) -> Any:
    """Parse the first bytes of a file (decompressed), without a check.

    Raises:
        FileError: It is no NIfTI file, or shorter than its header.
    """
    nib = load_nibabel()
    orders = {"<": int.from_bytes(start[:4], "little"), ">": int.from_bytes(start[:4], "big")}
    order = next((order for order, size in orders.items() if size in _HEADERS), None)
    if order is None:
        raise FileError(path, "is no NIfTI file, despite its name (sizeof_hdr is not 348 or 540); replace or remove it")
    kind = getattr(nib, _HEADERS[orders[order]])
    length = kind.template_dtype.itemsize
    if len(start) < length:
        reason = f"is truncated or damaged: it ends inside its header (sizeof_hdr {length}); copy it again or remove it"
        raise FileError(path, reason)
    try:
        return kind(start[:length], endianness=order, check=False)
    except nib.spatialimages.HeaderDataError:
        raise FileError(path, DAMAGED) from None


def check_header(path: Source, header: Any, max_voxels: int = MAX_VOXELS) -> None:
    """Check all fields but those of the geometry.

    Raises:
        FileError: The header describes no 3D volume of plain numbers in this file, or (`TooLargeError`) more than
            `max_voxels`.
    """
    _check_magic(path, header)
    dims = [int(edge) for edge in header["dim"]]
    if not 3 <= dims[0] <= 7:
        raise FileError(path, f"has {dims[0]} dimensions (dim[0]); give one 3D volume")
    for axis in range(1, dims[0] + 1):
        if dims[axis] < 1:
            raise FileError(path, f"has {dims[0]} dimensions, and dim[{axis}] is {dims[axis]}; give one 3D volume")
        if axis > 3 and dims[axis] != 1:
            shape = " x ".join(str(edge) for edge in dims[1 : dims[0] + 1])
            raise FileError(path, f"has {dims[0]} dimensions (dim: {shape}); give one 3D volume")
    if int(np.prod(dims[1:4], dtype=object)) > max_voxels:
        raise TooLargeError(
            path, f"its header specifies more than {max_voxels} voxels (dim); save it again or remove it"
        )
    if not _has_known_type(header):
        code = int(header["datatype"])
        raise FileError(
            path, f"its voxels are no plain numbers (datatype {code}: complex, colour or unknown); save them as float32"
        )
    _check_offset(path, header)


def _check_magic(path: Source, header: Any) -> None:
    magic = bytes(header["magic"])
    if magic.startswith(PAIR) and float(header["vox_offset"]) < len(header.binaryblock):
        raise FileError(path, "is half of a header/image pair (magic, vox_offset); save the volume as one .nii.gz file")
    if not magic.startswith((SINGLE_FILE, PAIR)):
        text = magic.decode("ascii", "backslashreplace")
        raise FileError(path, f"is no NIfTI file (magic is {text!r}); save the volume as one .nii.gz file")


def _has_known_type(header: Any) -> bool:
    from nibabel.spatialimages import HeaderDataError

    try:
        return header.get_data_dtype().newbyteorder("=").name in TYPES
    except (HeaderDataError, KeyError):
        return False


def _check_offset(path: Source, header: Any) -> None:
    offset = float(header["vox_offset"])
    if not 0 <= offset <= MAX_EXTENSIONS:
        raise FileError(
            path, f"is truncated or damaged: vox_offset is {offset:g}; save it again with the program that wrote it"
        )


def first_offset(header: Any) -> int:
    """The first byte that can be a voxel's: vox_offset, or the header's end where vox_offset is before that."""
    size, offset = len(header.binaryblock), int(header["vox_offset"])
    return offset if offset >= size + FLAG else size


def start_of_voxels(path: Source, header: Any, length: int) -> int:
    """Find the first byte of the voxels.

    A single file's vox_offset is at least the header's size and four. Programs that leave it at 0, or at the
    header's size, write the voxels after the header, with the four bytes or without: the file's length decides.

    Args:
        path: For the message.
        header: A checked one.
        length: Bytes of the whole file, decompressed.

    Raises:
        FileError: vox_offset is inside the header, and the length doesn't show where the voxels begin.
    """
    size = len(header.binaryblock)
    if (offset := first_offset(header)) != size:
        return offset
    before = length - voxel_bytes(header)
    if before in (size, size + FLAG):
        return before
    raise FileError(
        path,
        f"its vox_offset is {int(header['vox_offset'])}, before {size + FLAG}, and the file's length doesn't show "
        "where the voxels begin; save it again with the program that wrote it",
    )


def voxel_bytes(header: Any) -> int:
    """Bytes of all voxels."""
    return int(np.prod(shape_of(header), dtype=np.int64)) * int(header.get_data_dtype().itemsize)


def shape_of(header: Any) -> tuple[int, int, int]:
    """X, Y, Z."""
    x, y, z = (int(edge) for edge in header["dim"][1:4])
    return x, y, z


def slope_and_intercept(path: Source, header: Any) -> tuple[float, float]:
    """The scale of voxel values; a slope of zero, NaN or infinity means none, and then the intercept has no meaning.

    Raises:
        FileError: The slope can be used and the intercept can't.
    """
    from nibabel.spatialimages import HeaderDataError

    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError:
        raise FileError(
            path, f"its scale is not usable (scl_inter is {float(header['scl_inter']):g}); save it again"
        ) from None
    return (1.0, 0.0) if slope is None else (float(slope), float(intercept or 0.0))


def read_geometry(path: Source, header: Any) -> Geometry:
    """Read the transform that applies: the sform if its code is above 0, else the qform, else the voxel sizes alone.

    Raises:
        FileError: A field of that transform can't be used; fields of the others don't matter.
    """
    unit = _unit(header)
    try:
        affine, second = _transforms(header)
    except _UnusableError as error:
        raise FileError(path, f"its geometry is not usable: {error}") from None
    warnings = _odd_sizes(header) if second is None else _contradictions(affine, second)
    warnings += (*_odd_edges(_in_mm(affine, unit), unit), *_odd_depth(header))
    unused = tuple((name, _in_mm(stored, unit)) for name, stored in _unused(header))
    return Geometry(_in_mm(affine, unit), unit, None if second is None else _in_mm(second, unit), warnings, unused)


class _UnusableError(ValueError):
    """A transform that can't be used; the text names the field and the fix."""


def _transforms(header: Any) -> tuple[Affine, Affine | None]:
    """The affine that applies, and the qform where that is not the one."""
    if int(header["sform_code"]) <= 0:
        return (_qform(header) if int(header["qform_code"]) > 0 else _base(header)), None
    second, affine = _usable_qform(header), _sform(header)
    fix = RESAVE if second is None else "set sform_code to 0, so that the qform applies"
    if not np.isfinite(affine).all():
        raise _UnusableError(f"the sform (srow_x, srow_y, srow_z) has NaN or infinity; {fix}")
    if not _is_invertible(affine):
        raise _UnusableError(f"the sform (srow_x, srow_y, srow_z) is singular; {fix}")
    return affine, second


def _sform(header: Any) -> Affine:
    return np.vstack([header["srow_x"], header["srow_y"], header["srow_z"], [0, 0, 0, 1]]).astype(np.float64)


def _unused(header: Any) -> Iterator[tuple[str, Affine]]:
    """The transforms that are there and don't apply, as their code is 0; a qform of zeros is none."""
    sform = _sform(header)
    if int(header["sform_code"]) <= 0 and np.isfinite(sform).all() and _is_invertible(sform):
        yield "sform (srow_x, srow_y, srow_z), whose sform_code is 0", sform
    if int(header["qform_code"]) <= 0 and any(header[name] for name in _QFORM):
        with suppress(_UnusableError):
            yield "qform (quatern_b, c, d, qoffset_x, y, z), whose qform_code is 0", _qform(header)


def _usable_qform(header: Any) -> Affine | None:
    try:
        return _qform(header) if int(header["qform_code"]) > 0 else None
    except _UnusableError:
        return None


def _is_invertible(affine: Affine) -> bool:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return bool((lengths > 0).all()) and abs(np.linalg.det(affine[:3, :3] / lengths)) >= SMALLEST_DETERMINANT


def _qform(header: Any) -> Affine:
    """The affine of the quaternion: the format's method 2."""
    sound = _with_sound_sizes(header)
    flip = float(header["pixdim"][0])
    mirrored = abs(flip + 1) <= QFAC_TOLERANCE
    if flip < 0 and not mirrored:
        raise _UnusableError(f"pixdim[0] (qfac of the qform) is {flip:g}, neither 1 nor -1; {RESAVE}")
    # The format: zero, which should not occur, is 1. So is what else is no -1.
    sound["pixdim"][0] = -1 if mirrored else 1
    names = ("quatern_b", "quatern_c", "quatern_d")
    quaternion = np.array([header[name] for name in names], dtype=np.float64)
    squares = float((quaternion**2).sum())
    offset = [float(header[name]) for name in ("qoffset_x", "qoffset_y", "qoffset_z")]
    if not np.isfinite([squares, *offset]).all():
        raise _UnusableError(f"the qform (quatern_b, c, d, qoffset_x, y, z) has NaN or infinity; {RESAVE}")
    if squares > 1 + QUATERNION_EXCESS:
        raise _UnusableError(
            f"the squares of quatern_b, quatern_c and quatern_d (qform) add up to {squares:.4g}, above 1; {RESAVE}"
        )
    if squares > 1:
        for name, value in zip(names, quaternion / np.sqrt(squares), strict=True):
            sound[name] = value
    return np.asarray(sound.get_qform(coded=False), dtype=np.float64)


def _base(header: Any) -> Affine:
    """The affine of the voxel sizes, with the centre as origin and x to the left, as nibabel has it.

    The format's method 1 attaches no orientation to such a volume.
    """
    return np.asarray(_with_sound_sizes(header).get_base_affine(), dtype=np.float64)


def _with_sound_sizes(header: Any) -> Any:
    """A copy whose voxel sizes are positive."""
    for axis in (1, 2, 3):
        size = float(header["pixdim"][axis])
        if not np.isfinite(size) or size == 0:
            raise _UnusableError(f"pixdim[{axis}] (voxel size) is {size:g}; set the voxel size")
    sound = header.copy()
    sound["pixdim"][1:4] = np.abs(header["pixdim"][1:4])
    return sound


def _odd_sizes(header: Any) -> tuple[str, ...]:
    if int(header["sform_code"]) > 0:
        return ()
    warnings = []
    if int(header["qform_code"]) <= 0:
        warnings.append(
            "has no orientation (qform_code and sform_code are 0): its axes are taken to run to the left, forward and "
            "up; save it with its orientation"
        )
    if negative := [axis for axis in (1, 2, 3) if header["pixdim"][axis] < 0]:
        listed = ", ".join(f"pixdim[{axis}] {float(header['pixdim'][axis]):g}" for axis in negative)
        warnings.append(f"has a negative voxel size ({listed}); its sign is ignored; correct the header")
    if int(header["qform_code"]) > 0 and (flip := float(header["pixdim"][0])) != -1 and flip < 0:
        warnings.append(
            f"its pixdim[0] (qfac of the qform) is {flip:.9g} and taken as -1; programs that take it as 1 mirror the "
            "last axis; set it to -1"
        )
    return tuple(warnings)


def _odd_edges(affine: Affine, unit: str) -> Iterator[str]:
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    if unit != UNKNOWN and edges.max() > MAX_EDGE:
        shown = " x ".join(f"{edge:.4g}" for edge in edges)
        yield f"has voxels of {shown} mm; correct its voxel size, or its unit (xyzt_units is {unit})"


def _odd_depth(header: Any) -> Iterator[str]:
    bits, kind = int(header["bitpix"]), header.get_data_dtype()
    if bits not in (0, 8 * kind.itemsize):
        yield (
            f"its bitpix is {bits}, and its datatype ({kind.name}) has {8 * kind.itemsize} bits, which count; "
            "correct the wrong one"
        )


def _contradictions(sform: Affine, qform: Affine) -> tuple[str, ...]:
    """Different voxel sizes or axes: programs that read the other transform see another volume."""
    from nibabel import orientations

    sizes = [np.linalg.norm(affine[:3, :3], axis=0) for affine in (sform, qform)]
    texts = [
        f"{' x '.join(f'{size:.4g}' for size in edges)} {''.join(map(str, orientations.aff2axcodes(affine)))}"
        for edges, affine in zip(sizes, (sform, qform), strict=True)
    ]
    same_axes = texts[0].split()[-1] == texts[1].split()[-1]
    if same_axes and np.allclose(sizes[0], sizes[1], rtol=SPACING_TOLERANCE):
        return ()
    return (f"its sform and qform differ (voxels of {texts[0]} and {texts[1]}); the sform is used; correct the other",)


def _unit(header: Any) -> str:
    try:
        return str(header.get_xyzt_units()[0])
    except KeyError:  # a code that the format doesn't have
        return UNKNOWN


def _in_mm(affine: Affine, unit: str) -> Affine:
    scaled = affine.copy()
    scaled[:3] *= MILLIMETRES[unit]
    return scaled
