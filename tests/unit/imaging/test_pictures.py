"""Sound pictures of all kinds: each is read as Pillow reads it, with all of its bits."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from medloop.imaging.files import FileError, InMemory
from medloop.imaging.formats import read_image
from medloop.imaging.pictures import MAX_PIXELS, pixel_digest, write_png

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (24, 32, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 4096, (24, 32, 4)).astype(np.uint16)
SMALL = Image.fromarray(COLOUR[:8, :8])
PNG_START = b"\x89PNG\r\n\x1a\n"


def read(content: bytes) -> NDArray[np.generic]:
    """Read a file's content."""
    return read_image(InMemory("scan.png", content))


def saved(picture: Image.Image, form: str, **options: object) -> bytes:
    """A picture as a file's content."""
    buffer = io.BytesIO()
    picture.save(buffer, format=form, **options)
    return buffer.getvalue()


def png(pixels: NDArray[np.generic]) -> bytes:
    """Pixels of 8 or 16 bits and up to four channels as a PNG."""
    import imagecodecs

    content: bytes = imagecodecs.png_encode(np.ascontiguousarray(pixels))
    return content


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(png: bytes, extra: bytes) -> bytes:
    """The PNG with bytes behind its header."""
    return png[:33] + extra + png[33:]


# What a PNG's channels are, by the number of them, and what of them is expected.
DEPTHS = [
    pytest.param(DEEP[..., 0], DEEP[..., 0], id="grey"),
    pytest.param(DEEP[..., :2], DEEP[..., 0], id="grey and alpha"),
    pytest.param(DEEP[..., :3], DEEP[..., :3], id="rgb"),
    pytest.param(DEEP, DEEP[..., :3], id="rgba"),
]


class TestSixteenBits:
    """PNG with 16 bits a channel."""

    @pytest.mark.parametrize(("pixels", "expected"), DEPTHS)
    def test_png_keeps_all_bits(self, pixels: NDArray[np.uint16], expected: NDArray[np.uint16]) -> None:
        """Every kind of channels keeps 16 bits; transparency is dropped."""
        image = read(png(pixels))
        assert image.dtype == np.uint16
        np.testing.assert_array_equal(image, expected)

    def test_interlaced_png_keeps_all_bits(self) -> None:
        """Adam7 with one pixel a pass: 8 by 8 pixels of 16-bit colour, row by row of each pass."""
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
        pixels = DEEP[:8, :8, :3]
        parts = [pixels[y::dy, x::dx].astype(">u2") for y, x, dy, dx in passes]
        rows = b"".join(b"\0" + row.tobytes() for part in parts for row in part)
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 1))
        content = PNG_START + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        np.testing.assert_array_equal(read(content), pixels)

    def test_a_transparent_colour_is_a_colour(self) -> None:
        """The chunk tRNS marks one colour as transparent: its pixels stay."""
        content = with_chunk(png(DEEP[..., :3]), chunk(b"tRNS", struct.pack(">3H", *DEEP[0, 0, :3])))
        np.testing.assert_array_equal(read(content), DEEP[..., :3])

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_orientation_is_applied_as_pillow_does(self, orientation: int) -> None:
        """Sixteen bits turn as eight do."""
        exif = Image.Exif()
        exif[0x0112] = orientation
        eight = saved(Image.fromarray((DEEP[..., :3] >> 8).astype(np.uint8)), "PNG", exif=exif)
        upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(eight))))
        np.testing.assert_array_equal(read(eight), upright)
        deep = with_chunk(png(DEEP[..., :3]), chunk(b"eXIf", exif.tobytes()[6:]))
        np.testing.assert_array_equal(read(deep) >> 8, upright)

    @pytest.mark.parametrize("channels", [2, 3, 4])
    def test_truncated_is_refused(self, channels: int) -> None:
        """Missing pixels are noticed at any position."""
        content = png(DEEP[..., :channels])
        for cut in range(40, len(content) - 16, len(content) // 40):
            with pytest.raises(FileError, match="truncated or damaged"):
                read(content[:cut])

    @pytest.mark.parametrize("text", [b"", b"tEXt"], ids=["", "and text"])
    @pytest.mark.parametrize("damage", ["trailing bytes", "no end", "checksum of the end", "checksum of the pixels"])
    def test_it_is_as_tolerant_as_with_8_bits(self, damage: str, text: bytes) -> None:
        """Damage that Pillow ignores in a PNG with 8 bits is no reason to refuse one with 16."""

        def damaged(content: bytes) -> bytes:
            end, pixels = content.index(b"IEND") - 4, content.index(b"IDAT") - 4
            last = pixels + 12 + int.from_bytes(content[pixels : pixels + 4])
            return {
                "trailing bytes": content + RNG.bytes(100),
                "no end": content[:end],
                "checksum of the end": broken(content),
                "checksum of the pixels": broken(content[:last]) + content[last:],
            }[damage]

        extra = chunk(text, b"Comment\0P") if text else b""
        for pixels in (COLOUR, DEEP[..., :3]):
            np.testing.assert_array_equal(read(damaged(with_chunk(png(pixels), extra))), pixels)

    def test_a_copy_keeps_colour_and_bits(self, tmp_path: Path) -> None:
        """Colour of 16 bits comes back as it was written, twice with the same bytes; grey as RGB equals grey."""
        for name in ("a.png", "b.png"):
            write_png(tmp_path / name, DEEP[..., :3])
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), DEEP[..., :3])
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
        grey = DEEP[..., 0]
        assert pixel_digest(np.dstack([grey] * 3)) == pixel_digest(grey)


@pytest.mark.parametrize("options", [{"bitspersample": 12}, {"bitspersample": 16, "lossless": True}])
def test_a_jpeg_with_more_bits_is_not_called_damaged(options: dict[str, object]) -> None:
    """Pillow can't read it: the message says which format keeps its bits."""
    import imagecodecs

    content = imagecodecs.jpeg8_encode(np.ascontiguousarray(DEEP[..., 0]), level=95, **options)
    with pytest.raises(FileError, match=r"scan.png: is a JPEG with more than 8 bits; convert it to a PNG with 16 bits"):
        read(content)


def mpo() -> bytes:
    """A phone's photograph: a small picture behind the large one."""
    return saved(Image.fromarray(COLOUR), "MPO", save_all=True, append_images=[SMALL], quality=95)


def three_pictures() -> bytes:
    """A stereo camera's file."""
    return saved(Image.fromarray(COLOUR), "MPO", save_all=True, append_images=[SMALL, SMALL], quality=95)


def plain_then_another() -> bytes:
    """A second JPEG behind the first, which nothing tells of."""
    return saved(Image.fromarray(COLOUR), "JPEG", quality=95) + saved(SMALL, "JPEG")


def trailing_bytes() -> bytes:
    """Bytes behind the end: a video, a maker's block."""
    return saved(Image.fromarray(COLOUR), "JPEG", quality=95) + RNG.bytes(5000)


def damaged_index() -> bytes:
    """The index of pictures (MPF) has a tag of no known type."""
    content = mpo()
    at = content.index(b"MPF\0") + 4
    return content[: at + 10] + b"\xff" * 24 + content[at + 34 :]


def index_without_its_number() -> bytes:
    """The index of pictures lacks the number of them."""
    content = mpo()
    at = content.index(struct.pack("<H", 0xB001), content.index(b"MPF\0"))
    return content[:at] + struct.pack("<H", 0xB0FF) + content[at + 2 :]


class TestPhones:
    """JPEG with something behind the picture."""

    @pytest.mark.parametrize(
        "make", [mpo, three_pictures, plain_then_another, trailing_bytes, damaged_index, index_without_its_number]
    )
    def test_the_first_picture_is_read(self, make: Callable[[], bytes]) -> None:
        """As in viewers, the first picture counts, regardless of what follows."""
        plain = saved(Image.fromarray(COLOUR), "JPEG", quality=95)
        image = read(make())
        assert image.shape == COLOUR.shape
        np.testing.assert_array_equal(image, np.asarray(Image.open(io.BytesIO(plain))))

    def test_its_orientation_is_applied(self) -> None:
        """A photograph with a second picture turns upright too."""
        exif = Image.Exif()
        exif[0x0112] = 6
        content = saved(Image.fromarray(COLOUR), "MPO", save_all=True, append_images=[SMALL], exif=exif)
        assert read(content).shape == (32, 24, 3)

    def test_a_truncated_first_picture_is_refused(self) -> None:
        """A second picture doesn't stand in for the first."""
        content = mpo()
        end = content.index(b"\xff\xd9")
        with pytest.raises(FileError, match="truncated"):
            read(content[: end - 60])


def long_text(compressed: bool) -> bytes:
    """Two million characters."""
    text = (b"P" * 2_000_000) if not compressed else b"\0" + zlib.compress(b"P" * 2_000_000)
    return chunk(b"zTXt" if compressed else b"tEXt", b"Comment\0" + text)


def long_international_text() -> bytes:
    """XMP of two million characters, compressed."""
    return chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<x/>" * 500_000))


def large_profile() -> bytes:
    """A colour profile of three million bytes."""
    return chunk(b"iCCP", b"profile\0\0" + zlib.compress(RNG.bytes(3_000_000)))


def many_texts() -> bytes:
    """A hundred texts that unpack to a megabyte each."""
    return chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"P" * 1_000_000)) * 100


def broken(content: bytes) -> bytes:
    """The chunk with a wrong checksum."""
    return content[:-1] + bytes([content[-1] ^ 255])


METADATA = {
    "tEXt": lambda: long_text(False),
    "zTXt": lambda: long_text(True),
    "iTXt": long_international_text,
    "iCCP": large_profile,
    "many": many_texts,
    "tEXt with a wrong checksum": lambda: broken(chunk(b"tEXt", b"Comment\0P")),
    "pHYs with a wrong checksum": lambda: broken(chunk(b"pHYs", struct.pack(">IIB", 1, 1, 0))),
    "eXIf with a wrong checksum": lambda: broken(chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0")),
    "a short pHYs": lambda: chunk(b"pHYs", b"\0"),
    "a short gAMA": lambda: chunk(b"gAMA", b"\0"),
    "iCCP that isn't compressed": lambda: chunk(b"iCCP", b"profile\0\0nothing"),
    "an unknown chunk": lambda: chunk(b"prVt", RNG.bytes(100)),
}


class TestMetadata:
    """PNG with chunks that no pixel depends on."""

    @pytest.mark.parametrize("make", METADATA.values(), ids=METADATA.keys())
    @pytest.mark.parametrize("pixels", [COLOUR, DEEP[..., :3]], ids=["8 bits", "16 bits"])
    def test_pixels_are_read_regardless_of_metadata(
        self, make: Callable[[], bytes], pixels: NDArray[np.generic]
    ) -> None:
        """Text and profiles that are long or damaged say nothing about pixels."""
        content = with_chunk(png(pixels), make())
        np.testing.assert_array_equal(read(content), pixels)

    def test_the_orientation_in_xmp_is_kept(self) -> None:
        """Leaving out a long text doesn't leave out the one that says how the image is turned."""
        xmp = chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>')
        short = with_chunk(png(COLOUR), xmp)
        upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(short))))
        assert upright.shape == (32, 24, 3)
        np.testing.assert_array_equal(read(short), upright)
        np.testing.assert_array_equal(read(with_chunk(short, long_text(True))), upright)

    def test_an_animation_stays_refused_with_long_text(self) -> None:
        """Leaving text out doesn't turn the first frame into the picture."""
        frames = [Image.fromarray(COLOUR), Image.fromarray(COLOUR[::-1])]
        content = with_chunk(saved(frames[0], "PNG", save_all=True, append_images=frames[1:]), long_text(True))
        with pytest.raises(FileError, match="is an animation; give one file for each image"):
            read(content)

    def test_a_wrong_checksum_of_the_header_stays_refused(self) -> None:
        """Critical chunks are as they say."""
        content = png(COLOUR)
        with pytest.raises(FileError, match="damaged"):
            read(content[:32] + bytes([content[32] ^ 255]) + content[33:])

    @pytest.mark.parametrize("kind", [b"PLTk", b"PLTE", b"IDAT"])
    def test_damaged_critical_chunks_stay_refused_with_long_text(self, kind: bytes) -> None:
        """A palette of another name or with a wrong checksum, and pixels with a wrong checksum."""
        content = with_chunk(saved(Image.fromarray(COLOUR).convert("P"), "PNG"), long_text(True))
        at = content.index(kind[:3])
        changed = content[: at + 10] + bytes([content[at + 10] ^ 1]) + content[at + 11 :]
        with pytest.raises(FileError, match="damaged"):
            read(changed[:at] + kind + changed[at + 4 :])

    def test_a_bomb_behind_long_text_is_refused(self) -> None:
        """The number of pixels is checked as ever."""
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 16, 2, 0, 0, 0))
        content = PNG_START + header + long_text(True) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
        with pytest.raises(FileError, match=f"more than {MAX_PIXELS} pixels"):
            read(content)


def bitmap(bits: int, compression: int, body: bytes, width: int = 2, height: int = 2, masks: bytes = b"") -> bytes:
    """A BMP with a header of 40 bytes, and a palette of four colours if it has one."""
    palette = bytes([0, 0, 0, 0, 255, 0, 0, 0, 0, 255, 0, 0, 0, 0, 255, 0]) if bits <= 8 else masks
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(body), 0, 0, len(palette) // 4, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + palette + body


BITMAPS = {
    "runs of 8 bits": lambda: bitmap(8, 1, bytes([2, 1, 0, 0, 2, 2, 0, 1])),
    "15 bits": lambda: bitmap(16, 0, struct.pack("<4H", 0x7C00, 0x03E0, 0x001F, 0x7FFF)),
    "16 bits with masks": lambda: bitmap(
        16, 3, struct.pack("<4H", 0xF800, 0x07E0, 0x001F, 0xFFFF), masks=struct.pack("<3I", 0xF800, 0x07E0, 0x001F)
    ),
    "32 bits": lambda: bitmap(32, 0, bytes(range(16))),
    "from the top": lambda: bitmap(24, 0, bytes(range(16)), height=-2),
    "4 bits": lambda: bitmap(4, 0, bytes([0x12, 0, 0, 0, 0x30, 0, 0, 0])),
    "OS/2": lambda: (
        b"BM" + struct.pack("<IHHI", 42, 0, 0, 26) + struct.pack("<IHHHH", 12, 2, 2, 1, 24) + bytes(range(16))
    ),
}


class TestBitmaps:
    """BMP of the kinds that Pillow doesn't write."""

    @pytest.mark.parametrize("make", BITMAPS.values(), ids=BITMAPS.keys())
    def test_every_kind_is_read_as_pillow_does(self, make: Callable[[], bytes]) -> None:
        """Runs, palettes, masks, rows from the top and short headers."""
        np.testing.assert_array_equal(read(make()), by_pillow(make()))

    def test_missing_rows_are_refused(self) -> None:
        """A file that ends early is no picture with black rows."""
        content = saved(Image.fromarray(COLOUR), "BMP")
        for cut in range(20, len(content), 97):
            with pytest.raises(FileError, match="truncated or damaged"):
                read(content[:cut])


class TestWebP:
    """WebP: one image is read, with or without loss, upright; several are refused."""

    def test_its_orientation_is_applied(self) -> None:
        """As in the other formats of photographs."""
        exif = Image.Exif()
        exif[0x0112] = 6
        content = saved(Image.fromarray(COLOUR), "WEBP", lossless=True, exif=exif)
        np.testing.assert_array_equal(read(content), np.rot90(COLOUR, -1))

    def test_an_animation_is_refused(self) -> None:
        """By its name, with the fix."""
        frames = [Image.fromarray(COLOUR), Image.fromarray(COLOUR[::-1])]
        content = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])
        with pytest.raises(FileError, match=r"scan.png: is an animation; give one file for each image"):
            read(content)

    @pytest.mark.parametrize("lossless", [True, False])
    def test_truncated_is_refused(self, lossless: bool) -> None:
        """At any position."""
        content = saved(Image.fromarray(COLOUR), "WEBP", lossless=lossless)
        for cut in range(16, len(content) - 1, len(content) // 20):
            with pytest.raises(FileError, match="truncated or damaged"):
                read(content[:cut])

    def test_other_files_in_its_container_are_refused(self) -> None:
        """A sound is a RIFF file too."""
        with pytest.raises(FileError, match="truncated or damaged"):
            read(b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + bytes(40))


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr"]
FORMS = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "JPEG": ["1", "L", "RGB", "CMYK", "YCbCr"],
    "WEBP": ["L", "LA", "P", "RGB", "RGBA"],
    "BMP": ["1", "L", "P", "RGB", "RGBA"],
}
OPTIONS: dict[str, st.SearchStrategy[dict[str, object]]] = {
    "PNG": st.fixed_dictionaries({}, optional={"bits": st.sampled_from([1, 2, 4]), "transparency": st.just(0)}),
    "JPEG": st.fixed_dictionaries({"quality": st.integers(1, 100), "progressive": st.booleans()}),
    "WEBP": st.fixed_dictionaries({"quality": st.integers(1, 100), "lossless": st.booleans(), "method": st.just(0)}),
    "BMP": st.just({}),
}


@st.composite
def picture_files(draw: st.DrawFn) -> bytes:
    """A file that Pillow writes: any mode, size, options, text and orientation."""
    form = draw(st.sampled_from(sorted(FORMS)))
    mode = draw(st.sampled_from(FORMS[form]))
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    # Drawn byte by byte, pixels take most of the time; the reader's paths depend on the form, not on single pixels.
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pixels = noise.integers(0, draw(st.integers(1, 256)), 4 * height * width, dtype=np.uint16).astype(np.uint8)
    if mode == "I;16":
        picture = Image.fromarray(pixels.view(np.uint16)[: height * width].reshape(height, width))
    else:
        picture = Image.fromarray(pixels.reshape(height, width, 4)).convert(mode)
    options = draw(OPTIONS[form])
    if mode != "P":
        options.pop("bits", None)
    if mode not in ("L", "P"):
        options.pop("transparency", None)
    exif = Image.Exif()
    exif[0x0112] = draw(st.integers(0, 9))
    if form == "PNG":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_text("Comment", draw(st.text(max_size=20)), zip=draw(st.booleans()))  # type: ignore[attr-defined]
    return saved(picture, form, exif=exif, **options)


def by_pillow(content: bytes) -> NDArray[np.generic]:
    """What Pillow alone reads: 16-bit grey as it is, else grey or RGB."""
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


@settings(max_examples=100, deadline=None)
@given(content=picture_files())
def test_the_same_as_pillow(content: bytes) -> None:
    """Every file that Pillow writes is read as Pillow reads it."""
    np.testing.assert_array_equal(read(content), by_pillow(content))


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(content=picture_files(), data=st.data())
def test_mutated_bytes_are_refused_in_one_line_or_read_as_pillow_does(content: bytes, data: st.DataObject) -> None:
    """Bytes changed, cut out, doubled or cut off: only `FileError` is raised, and no reading differs."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        length = data.draw(st.integers(0, 12))
        changed[at : at + length] = data.draw(st.binary(max_size=12) | st.just(bytes(changed[at : at + length]) * 2))
        if not changed:
            return
    image = read_or_reason(bytes(changed))
    if isinstance(image, str):
        assert image.startswith("scan.png: ")
        assert "\n" not in image
        return
    try:
        expected = by_pillow(bytes(changed))
    except Exception:  # Pillow refuses damaged metadata, and reads no more than the upper bits of some files
        return
    if image.dtype == np.uint8 and image.shape == expected.shape:
        np.testing.assert_array_equal(image, expected)
