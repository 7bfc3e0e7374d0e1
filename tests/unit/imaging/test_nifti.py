"""NIfTI: what is read, what is refused, and what a copy loses."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension

from medloop.imaging.files import FileError, InMemory
from medloop.imaging.nifti import FREE_TEXT, copy_nifti, read_nifti, read_nifti_header, write_nifti
from tests.unit.imaging.niftis import make_file, make_header

VOXELS = np.random.default_rng(0).integers(0, 1000, (7, 6, 5)).astype(np.int16)
AFFINE = np.array([[0, -2.0, 0, 11], [1.5, 0, 0, -3], [0, 0, 4, 7], [0, 0, 0, 1]])


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_reads_as_nibabel_does(tmp_path: Path, kind: type, name: str, order: str) -> None:
    """Both versions, plain and compressed, of either byte order: nibabel's voxels, affine and spacing."""
    image = kind(VOXELS, AFFINE, kind.header_class(endianness=order))
    nib.save(image, tmp_path / name)

    volume = read_nifti(tmp_path / name)
    np.testing.assert_array_equal(volume.voxels, VOXELS)
    np.testing.assert_allclose(volume.affine, AFFINE)
    np.testing.assert_allclose(volume.spacing, (1.5, 2, 4))


def test_scale_and_trailing_axes(tmp_path: Path) -> None:
    """The header's slope and intercept hold; axes of length one after the third go."""
    image = nib.Nifti1Image(VOXELS[..., None], AFFINE)
    image.header.set_slope_inter(0.5, -10)
    nib.save(image, tmp_path / "a.nii.gz")

    stored = np.asarray(nib.load(tmp_path / "a.nii.gz").dataobj)[..., 0]
    np.testing.assert_allclose(read_nifti(tmp_path / "a.nii.gz").voxels, stored)


@pytest.mark.parametrize(
    ("code", "unit", "factor"),
    [(2, "mm", 1), (1, "meter", 1000), (3, "micron", 0.001), (0, "unknown", 1), (5, "unknown", 1)],
    ids=["mm", "meter", "micron", "none", "no code of the format"],
)
def test_lengths_are_read_in_mm(tmp_path: Path, code: int, unit: str, factor: float) -> None:
    """In any unit of the header; if the header has no unit, its numbers stay unchanged."""
    image = nib.Nifti1Image(VOXELS, AFFINE)
    image.header["xyzt_units"] = code
    path = tmp_path / "a.nii.gz"
    nib.save(image, path)

    volume, header = read_nifti(path), read_nifti_header(path)
    assert volume.unit == header.unit == unit
    scaled = np.vstack([AFFINE[:3] * factor, AFFINE[3:]])
    np.testing.assert_allclose(volume.affine, scaled)
    np.testing.assert_allclose(header.affine, scaled)
    np.testing.assert_allclose(volume.spacing, np.array([1.5, 2, 4]) * factor)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_copy_loses_text_and_keeps_the_rest(tmp_path: Path, kind: type) -> None:
    """Free text, extensions and trailing bytes go; geometry fields and voxel bytes stay, and the bytes repeat."""
    image = kind(VOXELS, AFFINE)
    image.set_qform(AFFINE, code=1)
    texts = [field for field in FREE_TEXT if field in image.header.keys()]  # noqa: SIM118 (a header is no mapping)
    for field in texts:
        image.header[field] = b"Hans"
    image.header.extensions.append(Nifti1Extension("comment", b"Hans Mueller, born 1950"))
    nib.save(image, tmp_path / "a.nii")
    with (tmp_path / "a.nii").open("ab") as file:
        file.write(b"Hans at the end")
    copy_nifti(tmp_path / "a.nii", tmp_path / "new" / "b.nii.gz")
    copy_nifti(tmp_path / "a.nii", tmp_path / "c.nii.gz")

    content = gzip.decompress((tmp_path / "new" / "b.nii.gz").read_bytes())
    assert b"Hans" not in content
    assert len(content) < (tmp_path / "a.nii").stat().st_size - 15
    copy, source = nib.load(tmp_path / "new" / "b.nii.gz"), nib.load(tmp_path / "a.nii")
    assert copy.dataobj.get_unscaled().tobytes() == source.dataobj.get_unscaled().tobytes()
    for field in ("pixdim", "qform_code", "sform_code", "quatern_b", "qoffset_x", "srow_x", "srow_y", "srow_z"):
        assert copy.header[field].tobytes() == source.header[field].tobytes()
    assert (tmp_path / "new" / "b.nii.gz").read_bytes() == (tmp_path / "c.nii.gz").read_bytes()


def _patched(path: Path, fields: str | list[str], values: object) -> None:
    """A sound volume with a field or some fields of its header changed."""
    header = nib.Nifti1Image(VOXELS, AFFINE).header
    header.set_data_offset(352)
    header["magic"] = b"n+1"
    for field, value in zip(fields, values, strict=True) if isinstance(fields, list) else [(fields, values)]:
        header[field] = value
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4) + VOXELS.tobytes(order="F")))


def _cut(path: Path) -> None:
    write_nifti(path, VOXELS, AFFINE)
    path.write_bytes(path.read_bytes()[:-40])


def _cut_plain(path: Path) -> None:
    path.write_bytes(nib.Nifti1Image(VOXELS, AFFINE).to_bytes()[:-40])


def _flipped_bit(path: Path) -> None:
    write_nifti(path, VOXELS, AFFINE)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # the gzip stream's checksum
    path.write_bytes(bytes(content))


def _nan(path: Path) -> None:
    voxels = VOXELS.astype(np.float32)
    voxels[3, 3, 3] = np.nan
    write_nifti(path, voxels, AFFINE)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_text("text " * 200), "no NIfTI"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(gzip.compress(b"")), "no NIfTI"),
        (lambda path: path.write_bytes(gzip.compress((348).to_bytes(4, "little"))), "truncated"),
        (_cut, "truncated"),
        (_cut_plain, "truncated"),
        (_flipped_bit, "truncated or damaged"),
        (_nan, "NaN"),
        (lambda path: _patched(path, "dim", [3, 30000, 30000, 30000, 1, 1, 1, 1]), "specifies more"),
        (lambda path: _patched(path, "dim", [3, 512, 512, 500, 1, 1, 1, 1]), "truncated"),
        (lambda path: _patched(path, "dim", [3, 7, -6, 5, 1, 1, 1, 1]), "dimensions"),
        (lambda path: _patched(path, "dim", [4, 7, 6, 1, 5, 1, 1, 1]), "4 dimensions"),
        (lambda path: _patched(path, "dim", [2, 7, 30, 1, 1, 1, 1, 1]), "2 dimensions"),
        (lambda path: _patched(path, "datatype", 32), "plain numbers"),
        (lambda path: _patched(path, "datatype", 77), "plain numbers"),
        (lambda path: _patched(path, "srow_x", [np.nan, 0, 0, 0]), "geometry"),
        (lambda path: _patched(path, "srow_x", [0, 0, 0, 0]), "geometry"),
        (lambda path: _patched(path, ["pixdim", "sform_code"], [[1, 0, 2, 4, 0, 0, 0, 0], 0]), "geometry"),
        (lambda path: _patched(path, ["scl_slope", "scl_inter"], [2.0, np.inf]), "scale"),
        (lambda path: _patched(path, ["magic", "vox_offset"], [b"ni1", 0]), "half of"),
        (lambda path: _patched(path, "vox_offset", 1e12), "truncated or damaged"),
        (lambda path: _patched(path, "vox_offset", np.nan), "truncated or damaged"),
    ],
)
def test_refused(tmp_path: Path, make: Callable[[Path], object], reason: str) -> None:
    """Every error is one line that begins with the file's name."""
    path = tmp_path / "img.nii.gz"
    make(path)

    with pytest.raises(FileError, match=reason) as refused:
        read_nifti(path)
    assert str(refused.value).startswith("img.nii.gz: ")


def test_a_header_that_lies_costs_no_memory(tmp_path: Path) -> None:
    """A kilobyte that promises 262 MB of voxels is refused before they are allocated."""
    _patched(tmp_path / "img.nii.gz", "dim", [3, 512, 512, 500, 1, 1, 1, 1])

    tracemalloc.start()
    with pytest.raises(FileError, match="truncated"):
        read_nifti(tmp_path / "img.nii.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_values_beyond_float32_are_refused(tmp_path: Path) -> None:
    """Training computes in float32, where they would be infinite, and blame the learning rate."""
    nib.save(nib.Nifti1Image(np.full((3, 3, 3), -1e300), np.eye(4)), tmp_path / "huge.nii.gz")
    with pytest.raises(FileError, match="too large for float32"):
        read_nifti(tmp_path / "huge.nii.gz")


def read_warnings(content: bytes) -> tuple[str, ...]:
    """Warnings about a file."""
    return read_nifti(InMemory("scan.nii", content)).warnings


@pytest.mark.parametrize(
    ("fields", "warning"),
    [
        (
            {"xyzt_units": 1},
            "has voxels of 1500 x 2000 x 4000 mm; correct its voxel size, or its unit (xyzt_units is m",
        ),
        ({"bitpix": 8}, "its bitpix is 8, and its datatype (int16) has 16 bits, which count; correct the wrong one"),
        ({"sform": False, "qform": False}, "has no orientation (qform_code and sform_code are 0): its axes are taken"),
    ],
)
def test_odd_headers_are_warned_of(fields: dict[str, Any], warning: str) -> None:
    """What other programs may read otherwise, or what can't be meant."""
    [line] = read_warnings(make_file(make_header(**fields)))
    assert line.startswith(warning)


@pytest.mark.parametrize("fields", [{}, {"xyzt_units": 2}, {"xyzt_units": 3}, {"bitpix": 0}, {"qform": False}])
def test_sound_headers_have_no_warning(fields: dict[str, Any]) -> None:
    """Micrometres are a unit of microscopes; a writer may leave bitpix at 0."""
    assert read_warnings(make_file(make_header(**fields))) == ()


@pytest.mark.parametrize(("num_bytes", "is_reported"), [(0, False), (83, False), (84, True), (420, True)])
def test_bytes_of_further_slices_are_warned_of(num_bytes: int, is_reported: bool) -> None:
    """A header whose dim or datatype is too small hides slices, channels or halves of values."""
    lines = read_warnings(make_file(make_header()) + bytes(num_bytes))
    text = f"contains {num_bytes} bytes after the 420 that its header specifies (dim, datatype), and they are not read"
    assert [line.startswith(text) for line in lines] == [True] * is_reported


def test_a_datatype_of_half_the_bytes_is_warned_of() -> None:
    """16-bit values that are read as bytes are noise."""
    lines = read_warnings(make_file(make_header(datatype=2)))
    assert [line[:13] for line in lines] == ["its bitpix is", "contains 210 "]
