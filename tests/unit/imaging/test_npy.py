"""Array files of strangers."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.lib import format as npy_format

from medloop.imaging.files import FileError, InMemory, TooLargeError
from medloop.imaging.npy import read_npy_image, read_npy_volume


def source(values: object, **options: bool) -> InMemory:
    """What np.save writes."""
    file = io.BytesIO()
    np.save(file, values, **options)  # type: ignore[arg-type]
    return InMemory("body", file.getvalue())


def header(**changes: object) -> InMemory:
    """A header that may lie, before 16 bytes."""
    file = io.BytesIO()
    fields = {"descr": "|u1", "fortran_order": False, "shape": (4, 4)} | changes
    npy_format.write_array_header_1_0(file, fields)
    return InMemory("body", file.getvalue() + bytes(range(16)))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "float16", "float32", ">f8"])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
def test_images(dtype: str, shape: tuple[int, ...]) -> None:
    """Grey and colour, in either byte order and either order of axes, in this machine's byte order afterwards."""
    pixels = np.random.default_rng(0).random(shape)
    expected = (pixels if "f" in dtype else pixels * 255).astype(dtype)
    for stored in (expected, np.asfortranarray(expected)):
        image = read_npy_image(source(stored))
        np.testing.assert_array_equal(image, expected)
        assert image.dtype.isnative


def test_volumes() -> None:
    """Integers and floating point, as they are."""
    voxels = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    np.testing.assert_array_equal(read_npy_volume(source(voxels)).voxels, voxels)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(4), "another shape"),
        (np.zeros((4, 4, 2)), "another shape"),
        (np.zeros((4, 4), np.int32), "another type"),
        (np.zeros((4, 4), bool), "another type"),
        (np.full((4, 4), 255.0), "outside 0..1"),
        (np.full((4, 4), np.nan), "outside 0..1"),
        (np.zeros((0, 4), np.uint8), "none at all"),
        (np.array([["DOE^JANE"]]), "another type"),
        (np.zeros(4, [("a", "u1")]), "no plain numbers"),
    ],
)
def test_refused_images(values: np.ndarray, message: str) -> None:
    """In one line that repeats no value."""
    with pytest.raises(FileError, match=message) as caught:
        read_npy_image(source(values))
    assert "DOE" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((4, 4)), "another shape"),
        (np.zeros((2, 2, 2), complex), "no plain numbers"),
        (np.full((2, 2, 2), np.inf), "NaN or infinite"),
        (np.full((2, 2, 2), 1e300), "too large for float32"),
    ],
)
def test_refused_volumes(values: np.ndarray, message: str) -> None:
    """As NIfTI's are."""
    with pytest.raises(FileError, match=message):
        read_npy_volume(source(values))


def test_objects_are_never_unpickled() -> None:
    """Refused by the header, before a byte of the pickle is looked at."""
    with pytest.raises(FileError, match="no plain numbers"):
        read_npy_image(source(np.array([[print]], dtype=object), allow_pickle=True))


@pytest.mark.parametrize(
    ("lie", "error"),
    [
        ({"shape": (5, 4)}, FileError),
        ({"shape": (10**6, 10**6)}, TooLargeError),
        ({"shape": (-4, 4)}, FileError),
        ({"shape": (2**40, 0)}, FileError),
        ({"shape": ()}, FileError),
        ({"descr": "|V0"}, FileError),
        ({"descr": "<U0"}, FileError),
        ({"descr": "|O"}, FileError),
    ],
)
def test_a_header_that_lies(lie: dict[str, object], error: type[FileError]) -> None:
    """Nothing is set aside for what isn't there."""
    with pytest.raises(error):
        read_npy_image(header(**lie))


@pytest.mark.parametrize(
    "content", [b"\x93NUMPY", b"\x93NUMPY\x09\x00", b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 4000, b""]
)
def test_damaged(content: bytes) -> None:
    """Cut short, of an unknown version, or with a header that Python's parser chokes on."""
    with pytest.raises(FileError):
        read_npy_image(InMemory("body", content))
