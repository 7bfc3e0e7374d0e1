"""TIFF: each kind is read as Pillow reads it, as far as that does, and what isn't read is refused in one line."""

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
    base: int = 0,
) -> bytes:
    """A file with one uncompressed strip, or one a plane, and any tags; `samples` as they are to be stored.

    It begins at the byte `base` of a larger one.
    """
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
    start = base + (16 if big else 8)
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

    @pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True), (">", True)])
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

    def test_colours_multiplied_by_their_transparency(self) -> None:
        """They are divided by it, with 8 bits as Pillow does it."""
        transparency = np.maximum(GREY, 1)
        multiplied = (COLOUR.astype(np.uint16) * transparency[..., None] // 255).astype(np.uint8)
        content = tiff(np.dstack([multiplied, transparency]), {338: 1})
        np.testing.assert_array_equal(read(content), by_pillow(content))
        deep = tiff(np.dstack([multiplied, transparency]).astype(np.uint16) * 257, {338: 1})
        assert np.abs((read(deep) >> 8).astype(int) - read(content)).max() <= 1
        assert not read(tiff(np.dstack([DEEP, DEEP_GREY * 0]) // 65535, {338: 1})).any()

    @pytest.mark.parametrize("bits", [2, 4, 9, 10, 12, 14])
    @pytest.mark.parametrize("photometric", [0, 1])
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_odd_numbers_of_bits(self, bits: int, photometric: int, order: str) -> None:
        """Fewer than 8 are scaled to 0..255, and others kept."""
        values, largest = DEEP_GREY >> (16 - bits), 2**bits - 1
        digits = (values[..., None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8)
        packed = np.packbits(digits.reshape(len(values), -1), axis=1)
        image = read(tiff(packed, {256: 40, 258: bits, 262: photometric}, order))
        expected = values if photometric else largest - values
        np.testing.assert_array_equal(image, expected if bits > 8 else expected * 255 // largest)

    def test_colour_with_12_bits(self) -> None:
        """As grey."""
        digits = (DEEP[..., None] >> np.arange(15, 3, -1) & 1).astype(np.uint8)
        packed = np.packbits(digits.reshape(len(DEEP), -1), axis=1)
        content = tiff(packed, {256: 40, 258: (12, 12, 12), 262: 2, 277: 3})
        np.testing.assert_array_equal(read(content), DEEP >> 4)

    @pytest.mark.parametrize("orientation", [1, 6, 3])
    @pytest.mark.parametrize(
        ("mode", "compression"),
        [
            ("1", "group3"),
            ("1", "group4"),
            ("1", "tiff_ccitt"),
            ("L", "jpeg"),
            ("RGB", "jpeg"),
            ("YCbCr", "jpeg"),
            ("YCbCr", "tiff_lzw"),
            ("CMYK", "jpeg"),
            ("CMYK", "tiff_lzw"),
            ("P", "tiff_lzw"),
        ],
    )
    def test_what_libtiff_shows(self, mode: str, compression: str, orientation: int) -> None:
        """Fax, JPEG, palettes, YCbCr and CMYK, turned upright, are as Pillow shows them."""
        content = saved(Image.fromarray(COLOUR).convert(mode), compression=compression, tiffinfo={274: orientation})
        np.testing.assert_array_equal(read(content), by_pillow(content))

    @pytest.mark.parametrize("tile", [None, (16, 16)])
    @pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
    def test_jpeg_in_strips_and_tiles(self, photometric: str, tile: tuple[int, int] | None) -> None:
        """As scanners of slides write it."""
        options = {"compression": "jpeg", "photometric": photometric, "level": 95}
        smooth = np.broadcast_to(np.arange(0, 240, 5, dtype=np.uint8)[:, None, None], (48, 64, 3))
        content = imagecodecs.tiff_encode(smooth, tile=tile, **options)
        assert np.abs(read(content).astype(int) - smooth).max() <= 2
        np.testing.assert_array_equal(read(content), by_pillow(content))

    def test_old_jpeg(self) -> None:
        """Compression 6, a complete JPEG in the file, as it was before 1995."""
        buffer = io.BytesIO()
        smooth = Image.fromarray(np.repeat(np.arange(0, 240, 10, dtype=np.uint8)[:, None], 48, axis=1)).convert("RGB")
        smooth.save(buffer, "JPEG", quality=95)
        jpeg = np.frombuffer(buffer.getvalue(), np.uint8)
        tags = {256: 48, 257: 24, 258: (8, 8, 8), 259: 6, 262: 6, 277: 3, 278: 24, 339: (1, 1, 1)}
        image = read(tiff(jpeg[None], {**tags, 513: 8, 514: len(jpeg)}))
        np.testing.assert_array_equal(image, np.asarray(Image.open(buffer)))

    @pytest.mark.parametrize("compression", ["webp", "lerc", "lzma"])
    def test_compressions_that_pillow_lacks(self, compression: str) -> None:
        """Lossless as they are written here."""
        content = imagecodecs.tiff_encode(COLOUR, compression=compression, level=0 if compression == "lerc" else None)
        assert read(content).shape == COLOUR.shape

    @pytest.mark.parametrize("tags", [{254: 1}, {254: 4}, {254: 5}, {255: 2}], ids=str)
    @pytest.mark.parametrize("first", [True, False])
    @pytest.mark.parametrize("pixels", [COLOUR, DEEP], ids=["8 bits", "16 bits"])
    def test_a_thumbnail_is_no_page(self, pixels: NDArray[np.generic], first: bool, tags: dict[int, int]) -> None:
        """A reduced copy or a mask before or behind the image doesn't count."""
        pages = [(np.ascontiguousarray(pixels[:8, :8]), tags), (pixels, {254: 0})]
        np.testing.assert_array_equal(read(chained(*(pages if first else pages[::-1]))), pixels)

    def test_a_pyramid_is_one_page(self) -> None:
        """Reduced copies in SubIFDs, which no viewer counts, and one in the chain."""
        content = tiff(COLOUR, {330: (8, 8)})
        np.testing.assert_array_equal(read(content), COLOUR)
        reduced = [(np.ascontiguousarray(DEEP[::step, ::step]), {254: 1}) for step in (2, 4, 8)]
        np.testing.assert_array_equal(read(chained((DEEP, {330: (8, 8)}), *reduced)), DEEP)


def chained(*pages: tuple[NDArray[np.generic], dict[int, int | tuple[int, ...]]]) -> bytes:
    """A file of several directories, each with its own tags."""
    content, next_at = bytearray(), 0
    for pixels, tags in pages:
        page = tiff(pixels, tags, base=len(content))
        first = struct.unpack_from("<I", page, 4)[0]
        if content:
            struct.pack_into("<I", content, next_at, first)
        content += page
        next_at = first + 2 + 12 * struct.unpack_from("<H", content, first)[0]
    return bytes(content)


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
    """What Pillow alone reads: the upper 8 bits of colour; 16-bit grey is inverted here where the file says so."""
    with Image.open(io.BytesIO(content)) as picture:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith("I"):
            values = np.asarray(upright)
            return ~values if picture.tag_v2.get(262) == 0 else values  # type: ignore[attr-defined]
        return np.asarray(upright.convert("L" if upright.mode in ("1", "L", "LA", "La") else "RGB"))


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
    # Pillow mixes up 16-bit channels that are stored apart.
    with Image.open(io.BytesIO(content)) as picture:
        planes = picture.tag_v2.get(284, 1)  # type: ignore[attr-defined]
    if image.shape == expected.shape and planes == 1:
        np.testing.assert_array_equal(image >> 8 * (image.itemsize - expected.itemsize), expected)


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


@pytest.mark.slow
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
