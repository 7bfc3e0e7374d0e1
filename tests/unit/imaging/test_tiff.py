"""TIFF: each kind is read as Pillow or libtiff read it, and what isn't read is refused in one line."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from medloop.imaging.files import FileError, InMemory
from medloop.imaging.formats import read_image

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (24, 40), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (24, 40, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 2**16, (24, 40, 3)).astype(np.uint16)
DEEP_GREY = np.ascontiguousarray(DEEP[..., 0])
COMPRESSIONS = ["raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "zstd"]


def read(content: bytes) -> NDArray[np.generic]:
    """Read a file's content."""
    return read_image(InMemory("scan.tif", content))


def saved(*pictures: Image.Image, **options: object) -> bytes:
    """Pictures as the pages of a file."""
    buffer = io.BytesIO()
    more: dict[str, object] = {"save_all": True, "append_images": pictures[1:]} if pictures[1:] else {}
    pictures[0].save(buffer, format="TIFF", **more, **options)
    return buffer.getvalue()


def tiff(
    samples: NDArray[np.generic],
    tags: dict[int, int | tuple[int, ...]] | None = None,
    order: str = "<",
    big: bool = False,
) -> bytes:
    """A file with one uncompressed strip, or one a plane, and any tags; `samples` as they are to be stored."""
    height, width = samples.shape[:2]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    tags = {
        **{256: width, 257: height, 258: (8 * samples.dtype.itemsize,) * channels, 259: 1},
        **{262: 2 if channels > 2 else 1, 277: channels, 278: height, 284: 1},
        **{339: ({"u": 1, "i": 2, "f": 3}[samples.dtype.kind],) * channels},
        **(tags or {}),
    }
    planes = np.moveaxis(samples, -1, 0) if tags[284] == 2 else samples[None]
    data = [plane.astype(samples.dtype.newbyteorder(order)).tobytes() for plane in planes]
    start = 16 if big else 8
    offsets = [start + sum(map(len, data[:number])) for number in range(len(data))]
    tags |= {273: tuple(offsets), 279: tuple(map(len, data))}
    body = b"".join(data)
    return _header(order, big, start + len(body)) + body + _directory(tags, order, big, start + len(body))


def _header(order: str, big: bool, offset: int) -> bytes:
    magic = b"II" if order == "<" else b"MM"
    return magic + struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0) if big else (42,)), offset)


def _directory(tags: dict[int, int | tuple[int, ...]], order: str, big: bool, at: int) -> bytes:
    """The directory, all values as LONG, and behind it those that are too long for it."""
    word, entry = ("Q", 20) if big else ("I", 12)
    room = 8 if big else 4
    head = struct.pack(order + ("Q" if big else "H"), len(tags))
    behind, entries = at + len(head) + entry * len(tags) + room, b""
    rest = b""
    for tag, value in sorted(tags.items()):
        values = value if isinstance(value, tuple) else (value,)
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(packed) > room:
            pointer = struct.pack(order + word, behind + len(rest))
            rest += packed
            packed = pointer
        entries += struct.pack(order + "HH" + word, tag, 4, len(values)) + packed.ljust(room, b"\0")
    return head + entries + bytes(room) + rest


class TestKinds:
    """Sound files of all kinds."""

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    @pytest.mark.parametrize("pixels", [GREY, COLOUR, DEEP_GREY], ids=["grey", "colour", "16 bits"])
    def test_compressions(self, compression: str, pixels: NDArray[np.generic]) -> None:
        """Each compression that Pillow writes gives the same pixels."""
        np.testing.assert_array_equal(read(saved(Image.fromarray(pixels), compression=compression)), pixels)

    @pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
    @pytest.mark.parametrize("planes", [1, 2])
    @pytest.mark.parametrize("pixels", [GREY, COLOUR, DEEP_GREY, DEEP], ids=["L", "RGB", "L 16", "RGB 16"])
    def test_orders_of_bytes_and_planes(self, pixels: NDArray[np.generic], planes: int, order: str, big: bool) -> None:
        """Both byte orders, channels interleaved and apart, and BigTIFF keep all bits."""
        if pixels.ndim == 2 and planes == 2:
            pixels, planes = pixels[:, ::2].copy(), 1
        image = read(tiff(pixels, {284: planes}, order, big))
        assert image.dtype == pixels.dtype
        np.testing.assert_array_equal(image, pixels)

    @pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}, {"rowsperstrip": 5}], ids=str)
    @pytest.mark.parametrize("compression", ["none", "lzw", "deflate", "zstd"])
    @pytest.mark.parametrize("pixels", [COLOUR, DEEP], ids=["8 bits", "16 bits"])
    def test_tiles_strips_and_predictors(
        self, pixels: NDArray[np.generic], compression: str, layout: dict[str, object]
    ) -> None:
        """What libtiff writes in tiles and strips, with and without the horizontal predictor."""
        for predictor in (False, compression != "none"):
            content = imagecodecs.tiff_encode(pixels, compression=compression, predictor=predictor, **layout)
            np.testing.assert_array_equal(read(content), pixels)

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("pixels", [GREY, DEEP_GREY], ids=["8 bits", "16 bits"])
    def test_black_is_zero_in_what_is_read(self, pixels: NDArray[np.generic], order: str) -> None:
        """WhiteIsZero is inverted, with 16 bits too, which Pillow doesn't do."""
        np.testing.assert_array_equal(read(tiff(pixels, {262: 0}, order)), np.iinfo(pixels.dtype).max - pixels)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_orientation(self, orientation: int) -> None:
        """Sixteen bits turn as eight do."""
        eight = read(tiff((DEEP >> 8).astype(np.uint8), {274: orientation}))
        plain = Image.open(io.BytesIO(tiff((DEEP >> 8).astype(np.uint8), {274: orientation})))
        np.testing.assert_array_equal(eight, np.asarray(ImageOps.exif_transpose(plain)))
        np.testing.assert_array_equal(read(tiff(DEEP, {274: orientation})) >> 8, eight)

    def test_palettes_bits_and_transparency(self) -> None:
        """Palettes become RGB, one bit grey, transparency is dropped."""
        palette = Image.fromarray(COLOUR).convert("P")
        np.testing.assert_array_equal(read(saved(palette)), np.asarray(palette.convert("RGB")))
        bits = Image.fromarray(GREY > 100)
        np.testing.assert_array_equal(read(saved(bits)), np.asarray(bits.convert("L")))
        for pixels in (COLOUR, DEEP):
            extra = np.dstack([pixels, pixels[..., 0]])
            np.testing.assert_array_equal(read(tiff(extra, {338: 2})), pixels)
            np.testing.assert_array_equal(read(tiff(extra[..., 2:], {338: 2, 262: 1})), pixels[..., 2])

    def test_whole_numbers_of_other_types(self) -> None:
        """Signed and longer integers are read where 16 bits have their values."""
        for kind in (np.int16, np.int32, np.uint32):
            values = (DEEP_GREY >> 1).astype(kind)
            image = read(tiff(values))
            assert image.dtype == np.uint16
            np.testing.assert_array_equal(image, values)

    def test_a_thumbnail_is_no_page(self) -> None:
        """A reduced copy before or behind the image doesn't count."""
        reduced = ImageFileDirectory_v2()
        reduced[254] = 1
        small = Image.fromarray(COLOUR[:8, :8])
        small.encoderinfo = {"tiffinfo": reduced}
        np.testing.assert_array_equal(read(saved(Image.fromarray(COLOUR), small)), COLOUR)


def several_pages() -> bytes:
    """Two images of one size."""
    return saved(Image.fromarray(GREY), Image.fromarray(GREY[::-1]))


def circle() -> bytes:
    """A directory that names itself as the next one, among images that are none: read once."""
    content = bytearray(tiff(GREY, {254: 0}))
    at = struct.unpack_from("<I", content, 4)[0]
    num = struct.unpack_from("<H", content, at)[0]
    struct.pack_into("<I", content, at + 2 + 12 * num, at)
    return bytes(content)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "pages": (several_pages, "has several pages; give one file for each image"),
    "floating point": (lambda: tiff(GREY.astype(np.float32)), "has floating-point pixels; scale all images alike"),
    "negative": (lambda: tiff(DEEP_GREY.astype(np.int16)), r"has pixels from -\d+ to \d+, and those from 0 to 65535"),
    "large values": (lambda: tiff(DEEP_GREY.astype(np.uint32) * 9), r"has pixels from \d+ to \d+, and those from 0"),
    "signed bytes": (lambda: tiff(GREY.astype(np.int8)), "has signed pixels; save it with 8 or 16 unsigned bits"),
    "32-bit colour": (lambda: tiff(DEEP.astype(np.uint32)), "has 3 channels of 32 bits; save it as grey or RGB"),
    "five channels": (
        lambda: tiff(np.dstack([DEEP, DEEP[..., :2]]), {338: (0, 0)}),
        "has 5 channels that are no RGB; save it as grey or RGB",
    ),
    "grey in three": (lambda: tiff(DEEP, {262: 1, 338: (0, 0)}), "has 3 channels that are no RGB; save it as grey or"),
    "many samples": (lambda: tiff(np.dstack([COLOUR] * 8)), "is truncated or damaged, or a kind of TIFF that is not"),
    "premultiplied": (lambda: tiff(np.dstack([DEEP, DEEP_GREY]), {338: 1}), "has colours multiplied by its transp"),
    "CIELAB": (lambda: tiff(COLOUR, {262: 8}), "has colours in CIELAB; convert it to RGB"),
    "bomb": (lambda: tiff(GREY, {256: 60_000, 257: 60_000}), "has more than 100000000 pixels"),
    "deep bomb": (lambda: tiff(DEEP, {256: 60_000, 257: 60_000}), "has more than 100000000 pixels"),
    "bomb of tiles": (lambda: tiff(DEEP, {322: 2**20, 323: 2**20}), "has more than 100000000 pixels"),
    "negative size": (lambda: tiff(GREY, {256: 2**31 + 1}), "has more than 100000000 pixels|is truncated or damaged"),
    "no size": (lambda: tiff(GREY, {256: 0}), "is truncated or damaged"),
    "strip outside": (lambda: tiff(DEEP)[:8] + b"", "is truncated or damaged"),
    "truncated": (lambda: saved(Image.fromarray(GREY), compression="tiff_lzw")[:-300], "is truncated or damaged"),
    "directory outside": (lambda: b"II*\0\xff\xff\xff\x7f" + bytes(100), "is truncated or damaged"),
    "big-endian BigTIFF": (lambda: tiff(GREY, None, ">", True), "is a BigTIFF in big-endian order; save it as little"),
    "no directory": (lambda: b"MM\0*" + bytes(4), "is truncated or damaged"),
    "compression": (lambda: tiff(GREY, {259: 34712}), "is truncated or damaged, or a kind of TIFF that is not read"),
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(make: Callable[[], bytes], reason: str) -> None:
    """Each reason is one line that names the file and a fix."""
    with pytest.raises(FileError, match=f"^scan.tif: ({reason})") as refused:
        read(make())
    assert "\n" not in str(refused.value)


def test_a_circle_of_directories_ends() -> None:
    """A directory that is its own next one is one page."""
    np.testing.assert_array_equal(read(circle()), GREY)


TURNS: dict[int, Callable[[NDArray[np.generic]], NDArray[np.generic]]] = {
    1: np.asarray,
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    6: lambda pixels: np.rot90(pixels, -1),
    8: np.rot90,
}


@st.composite
def tiff_files(draw: st.DrawFn) -> tuple[bytes, NDArray[np.generic]]:
    """A file of any size, depth, channels, byte order and layout, and what is stored in it, turned upright by NumPy."""
    height, width, channels = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.sampled_from([1, 2, 3, 4]))
    kind = np.dtype(draw(st.sampled_from(["u1", "u2"])))
    size = height * width * channels
    values = np.frombuffer(draw(st.binary(min_size=2 * size, max_size=2 * size)), kind)[:size]
    shape = (height, width, channels) if channels > 1 else (height, width)
    tags: dict[int, int | tuple[int, ...]] = {274: draw(st.sampled_from(sorted(TURNS)))}
    if channels in (2, 4):
        tags |= {338: draw(st.sampled_from([0, 2]))}
    if channels > 1:
        tags |= {284: draw(st.sampled_from([1, 2])), 262: 2 if channels > 2 else 1}
    else:
        tags |= {262: draw(st.sampled_from([0, 1]))}
    content = tiff(values.reshape(shape), tags, *draw(st.sampled_from([("<", False), (">", False), ("<", True)])))
    pixels = values.reshape(height, width, channels)[..., : 3 if channels > 2 else 1]
    expected = TURNS[int(str(tags[274]))](pixels if channels > 2 else pixels[..., 0])
    return content, ~expected if tags.get(262) == 0 else expected


def by_pillow(content: bytes) -> NDArray[np.generic]:
    """What Pillow alone reads: the upper 8 bits of some files, and WhiteIsZero inverted in some."""
    with Image.open(io.BytesIO(content)) as picture:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith("I"):
            return np.asarray(upright)
        return np.asarray(upright.convert("L" if upright.mode in ("1", "L", "LA") else "RGB"))


def read_or_reason(content: bytes) -> NDArray[np.generic] | str:
    """A file's pixels, or the message of its refusal."""
    try:
        return read(content)
    except FileError as refused:
        return str(refused)


def compare(content: bytes) -> None:
    """A reading that Pillow has too is the same, as far as Pillow's bits go; a refusal is one line."""
    image = read_or_reason(content)
    if isinstance(image, str):
        assert image.startswith("scan.tif: ")
        assert "\n" not in image
        return
    try:
        expected = by_pillow(content)
    except Exception:  # Pillow doesn't read all kinds
        return
    # Pillow inverts no 16-bit grey, and mixes up 16-bit channels that are stored apart.
    if image.dtype == np.uint8 and image.shape == expected.shape:
        np.testing.assert_array_equal(image, expected)


@settings(max_examples=25, deadline=None)
@given(file=tiff_files())
def test_what_is_stored_is_read(file: tuple[bytes, NDArray[np.generic]]) -> None:
    """Every sound file is read with all of its bits, and as Pillow reads it."""
    image = read(file[0])
    assert image.dtype == file[1].dtype
    np.testing.assert_array_equal(image, file[1])
    compare(file[0])


def mutate(content: bytes, data: st.DataObject) -> bytes:
    """The content with a few bytes changed, cut out or added."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(changed) - 1)))
        changed[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    return bytes(changed)


@settings(max_examples=40, deadline=None)
@given(file=tiff_files(), data=st.data())
def test_mutated_bytes(file: tuple[bytes, NDArray[np.generic]], data: st.DataObject) -> None:
    """Only `FileError` is raised, and no reading differs from Pillow's."""
    compare(mutate(file[0], data))


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(file=tiff_files(), data=st.data())
def test_many_mutated_bytes(file: tuple[bytes, NDArray[np.generic]], data: st.DataObject) -> None:
    """The same, for longer."""
    compare(mutate(file[0], data))
