"""Odd NIfTI headers: this reader, nibabel and SimpleITK in one table.

Each row says what this reader makes of a header, and if the two others do the same. Where they differ, nifti1.h
decides, and `why` cites it.
"""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medloop.imaging.files import FileError
from medloop.imaging.nifti import copy_nifti, nifti_labels, read_nifti, read_nifti_header
from tests.unit.imaging.niftis import AFFINE, BASE_AFFINE, VOXELS, make_file, make_header

Reading = tuple[np.ndarray, np.ndarray]
"""Voxels [X, Y, Z] and affine."""
SAME, OTHER, REFUSED = "same", "other", "refused"
ITK_WORLD = np.diag([-1.0, -1.0, 1.0, 1.0])
"""ITK's axes are L, P, S."""
NAN, INF = float("nan"), float("inf")
QFORM, NONE = {"sform": False}, {"sform": False, "qform": False}
TURNED = {"quatern_b": 0, "quatern_c": 0}
QFAC = "nibabel takes what is not -1 for 1; ITK a negative one for -1"
HALF_TURN = np.array([[-1.5, 0, 0, 11], [0, -2, 0, -3], [0, 0, 4, 7], [0, 0, 0, 1]])
"""The affine of quatern_d = 1."""
STRETCHED = {"srow_x": [3, 0, 0, 0], "srow_y": [0, 3, 0, 0], "srow_z": [0, 0, 3, 0]}
MIRRORED = AFFINE * [1, 1, -1, 1]


@dataclass(frozen=True)
class Row:
    """A header, and what readers make of it.

    Args:
        name: Of the test.
        fields: Of the header, in addition to the sound ones.
        refused: The field that the refusal names; "" if the file is read.
        voxels, affine: What is read.
        nibabel, itk: SAME as here, OTHER, or REFUSED.
        why: The reason, where readers differ.
        make: From the header to the file's content.
    """

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    refused: str = ""
    nibabel: str = SAME
    itk: str = SAME
    why: str = ""
    affine: np.ndarray = field(default_factory=lambda: AFFINE)
    voxels: np.ndarray = field(default_factory=lambda: VOXELS)
    make: Callable[[Any], bytes] = make_file


OFFSET = "nifti1.h: vox_offset of a single file is at least 352; others read the header's bytes as voxels"
ANALYZE = "nifti1.h, method 1: no orientation is attached; ITK's origin is the first voxel"
SIZES = "nifti1.h: pixdim must be positive; the others invent a size of 1"
INTERCEPT = "nifti1.h: only where scl_slope is nonzero are values scaled; ITK adds the intercept"
SFORM_FIRST = "nifti1.h, method 3 applies where sform_code > 0; ITK takes the qform where pixdim contradicts the sform"
UNITS = "nifti1.h: xyzt_units is the unit of the lengths; nibabel leaves the conversion to the caller"
SCALED = {1: 1e3, 3: 1e-3}


def in_mm(code: int) -> np.ndarray:
    """AFFINE, whose numbers are in the unit of the code."""
    return np.vstack([AFFINE[:3] * SCALED[code], AFFINE[3:]])


def after(content: bytes) -> Callable[[Any], bytes]:
    """A file with more bytes after the voxels."""
    return lambda header: make_file(header) + content


def zipped(change: Callable[[bytes], bytes]) -> Callable[[Any], bytes]:
    """A compressed file."""
    return lambda header: change(make_file(header))


def padded_to(offset: int) -> Callable[[Any], bytes]:
    """A file whose voxels begin at an offset."""
    return lambda header: make_file(header, gap=bytes(offset - len(header.binaryblock)))


TABLE = [
    Row("sound"),
    Row("big endian", {"order": ">"}),
    Row("version 2", {"version": 2}, itk=REFUSED, why="SimpleITK reads no NIfTI-2"),
    Row("version 2, big endian", {"version": 2, "order": ">"}, itk=REFUSED, why="SimpleITK reads no NIfTI-2"),
    # vox_offset
    Row("offset 0", {"vox_offset": 0}, nibabel=OTHER, itk=OTHER, why=OFFSET),
    Row("offset 0, big endian", {"vox_offset": 0, "order": ">"}, nibabel=OTHER, itk=OTHER, why=OFFSET),
    Row("offset 0, voxels at 348", {"vox_offset": 0}, nibabel=REFUSED, make=padded_to(348), why=OFFSET),
    Row("offset 1", {"vox_offset": 1}, nibabel=REFUSED, itk=OTHER, why=OFFSET),
    Row("offset 100", {"vox_offset": 100}, nibabel=REFUSED, itk=OTHER, why=OFFSET),
    Row("offset 348", {"vox_offset": 348}, nibabel=REFUSED, itk=OTHER, why=OFFSET),
    Row("offset 348, voxels there", {"vox_offset": 348}, nibabel=REFUSED, make=padded_to(348), why=OFFSET),
    Row("offset 350", {"vox_offset": 350}, nibabel=REFUSED, itk=OTHER, why=OFFSET),
    Row("offset 351", {"vox_offset": 351}, nibabel=REFUSED, itk=OTHER, why=OFFSET),
    Row(
        "offset 0, and bytes after the voxels", {"vox_offset": 0}, refused="vox_offset", nibabel=OTHER, itk=OTHER,
        make=after(b"tail"), why="the length shows no place of the voxels",
    ),
    Row("offset 353", {"vox_offset": 353}, make=padded_to(353)),
    Row("offset 400, as with extensions", {"vox_offset": 400}, make=padded_to(400)),
    Row("offset 360 of 352", {"vox_offset": 360}, refused="vox_offset", nibabel=REFUSED, itk=OTHER, why="ITK reads on"),
    Row("offset beyond the end", {"vox_offset": 1e6}, "vox_offset", REFUSED, OTHER, "as before"),
    Row("offset negative", {"vox_offset": -5}, refused="vox_offset", nibabel=REFUSED, itk=OTHER, why=OFFSET),
    Row("offset NaN", {"vox_offset": NAN}, refused="vox_offset", nibabel=REFUSED, itk=OTHER, why=OFFSET),
    Row("version 2, offset 0", {"version": 2, "vox_offset": 0}, nibabel=OTHER, itk=REFUSED, why=OFFSET),
    Row("version 2, offset 352", {"version": 2, "vox_offset": 352}, nibabel=REFUSED, itk=REFUSED, why=OFFSET),
    Row("version 2, offset 540", {"version": 2, "vox_offset": 540}, nibabel=REFUSED, itk=REFUSED, why=OFFSET),
    Row(
        "version 2, voxels at 540", {"version": 2, "vox_offset": 540}, nibabel=REFUSED, itk=REFUSED,
        make=padded_to(540), why=OFFSET,
    ),
    Row("version 2, offset 600", {"version": 2, "vox_offset": 600}, itk=REFUSED, make=padded_to(600), why="version 2"),
    # magic
    Row("magic of a pair, in one file", {"magic": b"ni1"}),
    Row("half of a pair", {"magic": b"ni1", "vox_offset": 0}, "magic", OTHER, OTHER, "they read the header as voxels"),
    Row("magic of version 2 in version 1", {"magic": b"n+2"}, nibabel=REFUSED),
    Row("magic that doesn't end", {"magic": b"n+1X"}, nibabel=REFUSED, itk=OTHER, why="ITK takes it for Analyze"),
    Row("no magic", {"magic": b""}, "magic", REFUSED, OTHER, "Analyze 7.5, without an orientation"),
    Row("another magic", {"magic": b"xxx"}, "magic", REFUSED, OTHER, "as before"),
    # dim
    Row("dim[0] 0", {"dim": [0, 7, 6, 5, 1, 1, 1, 1]}, "dim[0]", OTHER, REFUSED, "nibabel's volume is empty"),
    Row("dim[0] 2", {"dim": [2, 42, 5, 1, 1, 1, 1, 1]}, "dim[0]", OTHER, REFUSED, "nibabel reads 2D"),
    Row("dim[0] 8", {"dim": [8, 7, 6, 5, 1, 1, 1, 1]}, "dim[0]", REFUSED, REFUSED),
    Row("dim[0] of the other byte order", {"dim": [768, 7, 6, 5, 1, 1, 1, 1]}, "dim[0]", REFUSED, REFUSED),
    Row("one volume in 4D", {"dim": [4, 7, 6, 5, 1, 1, 1, 1]}),
    Row("one volume in 7D", {"dim": [7, 7, 6, 5, 1, 1, 1, 1]}),
    Row("edges after dim[0]", {"dim": [3, 7, 6, 5, 9, 9, 9, 9]}),
    Row("zeros after dim[0]", {"dim": [3, 7, 6, 5, 0, 0, 0, 0]}),
    Row("dim[4] 0", {"dim": [4, 7, 6, 5, 0, 1, 1, 1]}, "dim[4]", OTHER, SAME, "nibabel: empty; ITK: one volume"),
    Row("five volumes", {"dim": [4, 7, 6, 1, 5, 1, 1, 1]}, "dim", OTHER, OTHER, "they read 4D"),
    Row("dim[2] negative", {"dim": [3, 7, -6, 5, 1, 1, 1, 1]}, "dim[2]", REFUSED, OTHER, "ITK: one row"),
    Row("bitpix of another type", {"bitpix": 8}),
    Row("complex", {"datatype": 32}, "datatype", REFUSED, OTHER, "no grey values"),
    # qform
    Row("quaternion a rounding above 1", QFORM | TURNED | {"quatern_d": 1.0000002}, "", REFUSED, affine=HALF_TURN),
    Row("quaternion 1e-5 above 1", QFORM | TURNED | {"quatern_d": 1.00001}, "", REFUSED, affine=HALF_TURN),
    Row("quaternion of three decimals", QFORM | TURNED | {"quatern_d": 1.001}, "", REFUSED, affine=HALF_TURN),
    Row("version 2, quaternion above 1", QFORM | TURNED | {"quatern_d": 1 + 1e-9, "version": 2}, "", REFUSED, REFUSED,
        "version 2", HALF_TURN),
    Row("quaternion far above 1", QFORM | TURNED | {"quatern_d": 1.2}, "quatern_d", REFUSED, OTHER, "no rounding"),
    Row("quaternion NaN", QFORM | {"quatern_b": NAN}, "quatern_b", OTHER, SAME, "nibabel: NaN; ITK: zero"),
    Row("quaternion NaN next to an sform", {"quatern_b": NAN}),
    Row("quaternion above 1 next to an sform", {"quatern_d": 7}),
    Row("qoffset infinite", QFORM | {"qoffset_y": INF}, "qoffset", OTHER, OTHER, "they read infinity"),
    Row("qoffset infinite next to an sform", {"qoffset_y": INF}),
    Row("qfac 0", QFORM | {"pixdim": [0, 1.5, 2, 4, 1, 1, 1, 1]}),
    Row("qfac 2", QFORM | {"pixdim": [2, 1.5, 2, 4, 1, 1, 1, 1]}),
    Row("qfac NaN", QFORM | {"pixdim": [NAN, 1.5, 2, 4, 1, 1, 1, 1]}),
    Row("qfac -1", QFORM | {"pixdim": [-1, 1.5, 2, 4, 1, 1, 1, 1]}, affine=MIRRORED),
    *(
        Row(f"qfac {qfac}", QFORM | {"pixdim": [qfac, 1.5, 2, 4, 1, 1, 1, 1]}, "", OTHER, SAME, QFAC, MIRRORED)
        for qfac in (-1.0000001, -0.99999994, -0.9995)
    ),
    Row("qfac -1.01", QFORM | {"pixdim": [-1.01, 1.5, 2, 4, 1, 1, 1, 1]}, "pixdim[0]", SAME, OTHER, QFAC),
    Row("qfac -0.5", QFORM | {"pixdim": [-0.5, 1.5, 2, 4, 1, 1, 1, 1]}, "pixdim[0]", SAME, OTHER,
        "nibabel takes 1, ITK -1: the last axis points up or down"),
    Row("qfac -0.5 next to an sform", {"pixdim": [-0.5, 1.5, 2, 4, 1, 1, 1, 1]}),
    Row("qform_code negative", QFORM | {"qform_code": -1}, affine=BASE_AFFINE, itk=OTHER, why=ANALYZE),
    Row("qform_code 5", QFORM | {"qform_code": 5}),
    Row("qform_code 77", QFORM | {"qform_code": 77}, nibabel=OTHER, why="nifti1.h, method 2: qform_code > 0"),
    # pixdim
    Row("pixdim 0 next to an sform", {"pixdim": [1, 0, 2, 4, 1, 1, 1, 1]}, itk=OTHER, why=SFORM_FIRST),
    Row("pixdim negative next to an sform", {"pixdim": [1, -1.5, 2, 4, 1, 1, 1, 1]}, itk=OTHER, why=SFORM_FIRST),
    Row("pixdim NaN next to an sform", {"pixdim": [1, NAN, 2, 4, 1, 1, 1, 1]}, itk=OTHER, why=SFORM_FIRST),
    Row("pixdim of another volume next to an sform", {"pixdim": [1, 9, 9, 9, 1, 1, 1, 1]}, itk=OTHER, why=SFORM_FIRST),
    Row("pixdim 0", QFORM | {"pixdim": [1, 0, 2, 4, 1, 1, 1, 1]}, "pixdim[1]", OTHER, OTHER, SIZES),
    Row("pixdim NaN", QFORM | {"pixdim": [1, 1.5, NAN, 4, 1, 1, 1, 1]}, "pixdim[2]", OTHER, OTHER, SIZES),
    Row("pixdim infinite", QFORM | {"pixdim": [1, 1.5, 2, INF, 1, 1, 1, 1]}, "pixdim[3]", OTHER, OTHER, SIZES),
    Row("pixdim negative", QFORM | {"pixdim": [1, -1.5, 2, 4, 1, 1, 1, 1]}, itk=OTHER, why="ITK mirrors the axis"),
    Row("pixdim 0, no transform", NONE | {"pixdim": [1, 0, 2, 4, 1, 1, 1, 1]}, "pixdim[1]", OTHER, OTHER, SIZES),
    Row("no transform", NONE, affine=BASE_AFFINE, itk=OTHER, why=ANALYZE),
    Row("no transform, and numbers in their fields", NONE | {"srow_x": NAN, "quatern_b": 7}, "", SAME, OTHER, ANALYZE,
        BASE_AFFINE),
    # sform
    Row("sform_code 0, and garbage in the sform", QFORM | {"srow_x": [9, 9, 9, NAN]}),
    Row("sform_code negative", {"sform_code": -1} | STRETCHED),
    Row("sform_code 5", {"sform_code": 5}),
    Row("sform_code 77", {"sform_code": 77}),
    Row("sform of another place than the qform", {"srow_x": [0, -2, 0, 20]},
        affine=np.vstack([[0, -2, 0, 20], AFFINE[1:]])),
    Row("sform of other sizes than the qform", STRETCHED, itk=OTHER, why=SFORM_FIRST, affine=np.diag([3.0, 3, 3, 1])),
    Row("sform singular", {"srow_x": 0}, "srow_x", OTHER, SAME, "nibabel: singular; ITK: the qform"),
    Row("sform NaN", {"srow_x": [NAN, 0, 0, 0]}, "srow_x", OTHER, SAME, "nibabel: NaN; ITK: the qform"),
    Row("sform sheared", {"srow_x": [1, -2, 0, 11]}, itk=OTHER, why="ITK has no shear, and takes the qform",
        affine=np.vstack([[1, -2, 0, 11], AFFINE[1:]])),
    # scale
    Row("slope 0", {"scl_slope": 0, "scl_inter": 0}),
    Row("slope 0, intercept 5", {"scl_slope": 0, "scl_inter": 5}, itk=OTHER, why=INTERCEPT),
    Row("slope NaN, intercept 5", {"scl_slope": NAN, "scl_inter": 5}, itk=OTHER, why=INTERCEPT),
    Row("slope infinite", {"scl_slope": INF, "scl_inter": 0}),
    Row("slope -2, intercept 1", {"scl_slope": -2, "scl_inter": 1}, voxels=VOXELS * -2.0 + 1),
    Row("slope 1, intercept NaN", {"scl_slope": 1, "scl_inter": NAN}, "scl_inter", REFUSED, SAME, "ITK ignores it"),
    Row("slope 2, intercept infinite", {"scl_slope": 2, "scl_inter": INF}, "scl_inter", REFUSED, OTHER, "as before"),
    # units and intent
    Row("no unit", {"xyzt_units": 0}),
    Row("a unit that isn't there", {"xyzt_units": 5}),
    Row("metres", {"xyzt_units": 1}, nibabel=OTHER, why=UNITS, affine=in_mm(1)),
    Row("micrometres and seconds", {"xyzt_units": 11}, nibabel=OTHER, why=UNITS, affine=in_mm(3)),
    Row("label intent", {"intent_code": 1002}),
    Row("vector intent of one value", {"intent_code": 1007, "dim": [5, 7, 6, 5, 1, 1, 1, 1]}),
    Row("intent that isn't there", {"intent_code": 31000}),
    # the file around it
    Row("bytes after the voxels", make=after(b"tail" * 9)),
    Row("compressed", make=zipped(gzip.compress)),
    Row("compressed in two members", make=zipped(lambda c: gzip.compress(c[:400]) + gzip.compress(c[400:]))),
    Row("compressed, zeros after it", make=zipped(lambda c: gzip.compress(c) + bytes(512))),
    Row("compressed, bytes after it", nibabel=REFUSED, make=zipped(lambda c: gzip.compress(c) + b"garbage" * 3)),
    Row("compressed, zeros and bytes after it", nibabel=REFUSED,
        make=zipped(lambda c: gzip.compress(c) + bytes(9) + b"garbage")),
    Row("compressed, offset 0, bytes after it", {"vox_offset": 0}, nibabel=REFUSED, itk=OTHER, why=OFFSET,
        make=zipped(lambda c: gzip.compress(c) + b"garbage" * 3)),
]  # fmt: skip
ROWS = pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No log of nibabel's repairs."""
    log = logging.getLogger("nibabel.global")
    level = log.level
    log.setLevel(logging.CRITICAL)
    yield
    log.setLevel(level)


def write(row: Row, folder: Path) -> Path:
    """The row's file."""
    content = row.make(make_header(**row.fields))
    path = folder / ("img.nii.gz" if content[:2] == b"\x1f\x8b" else "img.nii")
    path.write_bytes(content)
    return path


def read_nibabel(path: Path) -> Reading:
    """Nibabel's reading; axes of length 1 after the third are dropped."""
    image = nib.load(path)
    voxels = np.asarray(image.dataobj)
    return (voxels.reshape(voxels.shape[:3]) if set(voxels.shape[3:]) <= {1} else voxels), image.affine


def read_itk(path: Path) -> Reading:
    """SimpleITK's reading, in NIfTI's world."""
    import SimpleITK as ITK  # noqa: N814 (a test dependency: the other tests' collection doesn't wait for it)

    image = ITK.ReadImage(str(path))
    axes, affine = image.GetDimension(), np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(axes, axes)[:3, :3] * np.array(image.GetSpacing())[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return ITK.GetArrayFromImage(image).T, ITK_WORLD @ affine


def compare(read: Callable[[Path], Reading], path: Path, expected: Reading) -> str:
    """SAME, OTHER or REFUSED."""
    try:
        voxels, affine = read(path)
    except Exception:  # readers raise anything
        return REFUSED
    same = voxels.shape == expected[0].shape and np.allclose(voxels, expected[0])
    return SAME if same and np.allclose(affine, expected[1], rtol=1e-5, atol=1e-5) else OTHER


@ROWS
def test_this_reader(row: Row, tmp_path: Path) -> None:
    """A file is read as the row says, or refused in one line that names file and field; copies read the same."""
    path = write(row, tmp_path)
    if row.refused:
        with pytest.raises(FileError) as refusal:
            read_nifti(path)
        assert row.refused in str(refusal.value).split(";")[0]
        assert str(refusal.value).startswith(f"{path.name}: ")
        assert len(str(refusal.value).splitlines()) == 1
        return
    volume = read_nifti(path)
    np.testing.assert_allclose(volume.voxels, row.voxels)
    np.testing.assert_allclose(volume.affine, row.affine, atol=1e-5)
    np.testing.assert_array_equal(read_nifti_header(path).affine, volume.affine)
    copy_nifti(path, tmp_path / "copy.nii.gz")
    (tmp_path / "map.nii.gz").write_bytes(nifti_labels((volume.voxels > 500).astype(np.uint8), volume, path))
    copy, labels = read_nifti(tmp_path / "copy.nii.gz"), read_nifti(tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(copy.voxels, volume.voxels)
    np.testing.assert_array_equal(labels.voxels, volume.voxels > 500)
    for other in (copy, labels):
        np.testing.assert_array_equal(other.affine, volume.affine)


@ROWS
def test_other_readers(row: Row, tmp_path: Path) -> None:
    """Nibabel and SimpleITK agree, or differ as the row says; where one differs in reading, the row says why."""
    path = write(row, tmp_path)
    expected = row.voxels, row.affine

    assert (compare(read_nibabel, path, expected), compare(read_itk, path, expected)) == (row.nibabel, row.itk)
    assert row.why or OTHER not in (row.nibabel, row.itk)
