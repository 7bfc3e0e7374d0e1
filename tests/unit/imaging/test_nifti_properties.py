"""Any mutation of a NIfTI header: read as nibabel reads it, or refused in one line that names file and field."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medloop.imaging.files import FileError, InMemory
from medloop.imaging.nifti import read_nifti, read_nifti_header
from medloop.imaging.nifti_header import MILLIMETRES
from tests.unit.imaging.niftis import VOXELS, make_file, make_header

FIELDS = (
    *(
        "sizeof_hdr",
        "magic",
        "dim",
        "datatype",
        "vox_offset",
        "scl_slope",
        "scl_inter",
        "pixdim",
        "srow_x",
        "quatern_b",
    ),
    "voxels",
)
"""One of them is in every refusal."""
ODD = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1.0000002, 2.0, -3.5, 1e-30, 1e30, np.nan, np.inf, -np.inf])
NUMBERS = st.one_of(ODD, st.floats(width=32))
EDGES = st.sampled_from([-1, 0, 1, 2, 5, 6, 7, 210, 32767])
MUTATIONS: dict[str, st.SearchStrategy[Any]] = {
    "dim": st.tuples(st.integers(-1, 9), *[EDGES] * 7).map(list),
    "datatype": st.sampled_from([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 9999, -1]),
    "bitpix": st.integers(0, 128),
    "pixdim": st.lists(NUMBERS, min_size=8, max_size=8),
    # Codes above 5 are a documented difference: nibabel drops them, nifti1.h says "above 0".
    "qform_code": st.integers(-2, 5),
    "sform_code": st.integers(-2, 5),
    **{f"quatern_{axis}": NUMBERS for axis in "bcd"},
    **{f"qoffset_{axis}": NUMBERS for axis in "xyz"},
    **{f"srow_{axis}": st.lists(NUMBERS, min_size=4, max_size=4) for axis in "xyz"},
    "scl_slope": NUMBERS,
    "scl_inter": NUMBERS,
    "xyzt_units": st.integers(0, 255),
    "intent_code": st.sampled_from([0, 2, 1002, 1007, 2003, -1]),
    # Before 352 nibabel refuses, or reads the header as voxels.
    "vox_offset": st.sampled_from([352, 353, 360, 368, 544, 560, 10**5, 10**9]),
    "magic": st.sampled_from([b"n+1", b"n+2", b"ni1", b"", b"xxx"]),
    "cal_max": NUMBERS,
    "slice_end": st.integers(-5, 5),
}
HEADERS = st.lists(st.sampled_from(sorted(MUTATIONS)), min_size=1, max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: MUTATIONS[name] for name in names})
)
BASES = st.fixed_dictionaries(
    {"version": st.sampled_from([1, 2]), "order": st.sampled_from("<>"), "sform": st.booleans(), "qform": st.booleans()}
)
PATIENCE = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Neither nibabel's repairs nor its overflows are printed."""
    log = logging.getLogger("nibabel.global")
    level = log.level
    log.setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    log.setLevel(level)


def require_one_line(error: FileError) -> None:
    """The refusal names the file and a field of its header."""
    text = str(error)
    assert text.startswith("img.nii: ")
    assert len(text.splitlines()) == 1
    assert any(name in text for name in FIELDS), text


def require_nibabels_reading(content: bytes) -> None:
    """Where both read a file, shape, values and positions are the same."""
    try:
        volume = read_nifti(InMemory("img.nii", content))
    except FileError as error:
        return require_one_line(error)
    assert np.isfinite(volume.affine).all()
    assert np.isfinite(volume.voxels).all()
    kind = nib.Nifti1Image if content[:4] in (b"\\\x01\0\0", b"\0\0\x01\\") else nib.Nifti2Image
    try:
        image = kind.from_bytes(content)
        voxels, affine = np.asarray(image.dataobj), image.affine
    except Exception:  # nibabel refuses with any error
        return None
    assert voxels.shape[:3] == volume.voxels.shape
    np.testing.assert_array_equal(voxels.reshape(volume.voxels.shape), volume.voxels)
    scaled = np.vstack([affine[:3] * MILLIMETRES[volume.unit], affine[3:]])
    np.testing.assert_allclose(volume.affine, scaled, rtol=1e-4, atol=1e-4 * np.abs(affine[:3, :3]).max())
    return None


@pytest.mark.slow
@PATIENCE
@given(BASES, HEADERS, st.sampled_from([0, 4, 20, 400]), st.sampled_from([0, 0, 1, 500]))
def test_fields_of_a_header(base: dict[str, Any], fields: dict[str, Any], gap: int, cut: int) -> None:
    """Some fields have other values, right and wrong ones; the file may be too long or cut."""
    content = make_file(make_header(**base, **fields), gap=bytes(max(gap, 4)))
    require_nibabels_reading(content[: len(content) - cut])


@pytest.mark.slow
@PATIENCE
@given(BASES, st.lists(st.tuples(st.integers(4, 347), st.integers(0, 255)), min_size=1, max_size=6))
def test_bytes_of_a_header(base: dict[str, Any], edits: list[tuple[int, int]]) -> None:
    """Some bytes have other values: a file is read, or refused in one line; and the header alone is no other."""
    content = bytearray(make_file(make_header(**base)))
    for offset, value in edits:
        content[offset] = value
    source = InMemory("img.nii", bytes(content))
    try:
        volume = read_nifti(source)
    except FileError as error:
        return require_one_line(error)
    np.testing.assert_array_equal(read_nifti_header(source).affine, volume.affine)
    assert read_nifti_header(source).voxels.shape == volume.voxels.shape
    return None


@PATIENCE
@given(BASES, st.integers(-10, 600), st.integers(0, 3))
def test_offsets(base: dict[str, Any], offset: int, tail: int) -> None:
    """For any vox_offset the voxels are the file's, or it is refused: header and padding are never voxels."""
    header = make_header(**base, vox_offset=offset)
    size = len(header.binaryblock)
    try:
        volume = read_nifti(InMemory("img.nii", make_file(header) + bytes(tail)))
    except FileError as error:
        return require_one_line(error)
    assert offset < size + 4 + tail + 1
    if offset <= size + 4:
        np.testing.assert_array_equal(volume.voxels, VOXELS)
    return None
