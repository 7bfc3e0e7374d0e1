"""TIFF: what isn't read is refused in one line, in little time and memory, and nothing is printed."""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from medloop.imaging.files import FileError
from tests.unit.imaging.test_tiff import COLOUR, DEEP, DEEP_GREY, GREY, read, saved, tiff

DAMAGED = "is truncated or damaged, or a kind of TIFF that is not read; copy it again, or convert it to PNG"
TOO_LARGE = "has more than 100000000 pixels"
SMOOTH = Image.fromarray(np.repeat(np.arange(0, 240, 10, dtype=np.uint8)[:, None], 40, axis=1)).convert("RGB")


def changed(
    content: bytes, tag: int, value: int | None = None, count: int | None = None, at: int = 0, kind: int = 4
) -> bytes:
    """A little-endian file with another value (or, of several, the one at an index), count or type of a tag."""
    result = bytearray(content)
    directory = struct.unpack_from("<I", content, 4)[0]
    for entry in range(directory + 2, directory + 2 + 12 * struct.unpack_from("<H", content, directory)[0], 12):
        number, stored, values, pointer = struct.unpack_from("<HHII", content, entry)
        if number != tag:
            continue
        size = {3: 2, 4: 4}[stored]
        if count is not None:
            struct.pack_into("<I", result, entry + 4, count)
        elif values * size > 4:
            struct.pack_into("<H" if size == 2 else "<I", result, pointer + size * at, value)
        else:
            struct.pack_into("<HII", result, entry + 2, kind, 1, pointer if value is None else value)
        return bytes(result)
    raise AssertionError(f"no tag {tag}")


def strips(mode: str = "RGB", compression: str = "tiff_lzw") -> bytes:
    """Three strips."""
    return saved(SMOOTH.convert(mode), compression=compression, tiffinfo={278: 8})


def zeroed(content: bytes) -> bytes:
    """The second strip of a file that Pillow wrote, as zeros."""
    with Image.open(io.BytesIO(content)) as picture:
        start, size = (picture.tag_v2[tag][1] for tag in (273, 279))  # type: ignore[attr-defined]
    return content[:start] + bytes(size) + content[start + size :]


def in_strips(pixels: np.ndarray) -> bytes:
    """Three uncompressed strips."""
    return imagecodecs.tiff_encode(pixels, compression="none", rowsperstrip=8)


def tiles(pixels: np.ndarray, compression: str = "deflate") -> bytes:
    """Six tiles."""
    return imagecodecs.tiff_encode(pixels, compression=compression, tile=(16, 16))


def many_long_tags() -> bytes:
    """A sound image with two thousand more values that are each the whole file: 600 MB, if they were loaded."""
    plain = tiff(GREY)
    directory = struct.unpack_from("<I", plain, 4)[0]
    num = struct.unpack_from("<H", plain, directory)[0]
    entries = plain[directory + 2 : directory + 2 + 12 * num]
    entries += b"".join(struct.pack("<HHII", 1000 + number, 7, 300_000, 8) for number in range(2000))
    content = plain.ljust(300_008, b"\0") + struct.pack("<H", num + 2000) + entries + bytes(4)
    return content[:4] + struct.pack("<I", 300_008) + content[8:]


def big(count: int, offset: int | None = None) -> bytes:
    """A BigTIFF whose directory counts many entries."""
    content = bytearray(tiff(GREY, None, "<", True))
    if offset is not None:
        struct.pack_into("<Q", content, 8, offset)
    else:
        struct.pack_into("<Q", content, struct.unpack_from("<Q", content, 8)[0], count)
    return bytes(content)


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
    "many samples": (lambda: tiff(np.dstack([COLOUR] * 8)), "has 24 channels that are no RGB; save it as grey or RGB"),
    "CIELAB": (lambda: tiff(COLOUR, {262: 8}), "has colours in CIELAB; convert it to RGB"),
    "bomb": (lambda: tiff(GREY, {256: 60_000, 257: 60_000}), "has more than 100000000 pixels"),
    "deep bomb": (lambda: tiff(DEEP, {256: 60_000, 257: 60_000}), "has more than 100000000 pixels"),
    "bomb of tiles": (lambda: tiff(DEEP, {322: 2**20, 323: 2**20}), "has more than 100000000 pixels"),
    "negative size": (lambda: tiff(GREY, {256: 2**31 + 1}), "has more than 100000000 pixels|is truncated or damaged"),
    "no size": (lambda: tiff(GREY, {256: 0}), "is truncated or damaged"),
    "head alone": (lambda: tiff(DEEP)[:8], "is truncated or damaged"),
    "truncated": (lambda: saved(Image.fromarray(GREY), compression="tiff_lzw")[:-300], "is truncated or damaged"),
    "directory outside": (lambda: b"II*\0\xff\xff\xff\x7f" + bytes(100), "is truncated or damaged"),
    "no directory": (lambda: b"MM\0*" + bytes(4), "is truncated or damaged"),
    "compression": (lambda: tiff(GREY, {259: 34712}), "is truncated or damaged, or a kind of TIFF that is not read"),
    "outside, a strip": (lambda: changed(tiff(DEEP), 273, 2**31 - 1), DAMAGED),
    "outside, a strip of bytes": (lambda: changed(tiff(GREY), 273, 2**32 - 1), DAMAGED),
    "outside, a strip's end": (lambda: changed(tiff(GREY), 273, len(tiff(GREY)) - 5), DAMAGED),
    "outside, a compressed strip": (lambda: changed(strips(), 273, 60_000, at=1), DAMAGED),
    "outside, a compressed strip's end": (lambda: changed(strips(), 279, 60_000, at=1), DAMAGED),
    "outside, a palette's strip": (lambda: changed(strips("P"), 273, 60_000, at=1), DAMAGED),
    "outside, a JPEG's strip": (lambda: changed(strips("RGB", "jpeg"), 273, 60_000, at=2), DAMAGED),
    "outside, a JPEG's end": (lambda: changed(strips("L", "jpeg"), 279, 60_000, at=1), DAMAGED),
    "outside, CMYK": (lambda: changed(strips("CMYK"), 273, 60_000, at=1), DAMAGED),
    "outside, a fax": (lambda: changed(strips("1", "group4"), 273, 60_000, at=1), DAMAGED),
    "outside, a tile": (lambda: changed(tiles(COLOUR), 324, 2**31 - 1, at=3), DAMAGED),
    "outside, a deep tile": (lambda: changed(tiles(DEEP), 324, 60_000, at=3), DAMAGED),
    "outside, a tile's end": (lambda: changed(tiles(GREY), 325, 60_000, at=3), DAMAGED),
    "outside, a JPEG's tile": (lambda: changed(tiles(COLOUR, "jpeg"), 324, 60_000, at=3), DAMAGED),
    "no JPEG in a strip": (lambda: changed(strips("RGB", "jpeg"), 273, 9, at=1), DAMAGED),
    "too few strips": (lambda: changed(tiff(GREY), 257, 9000), DAMAGED),
    "too few strips of a row": (lambda: changed(tiff(GREY), 278, 1), DAMAGED),
    "one strip fewer": (lambda: changed(in_strips(DEEP_GREY), 273, count=2), DAMAGED),
    "one strip fewer, 8 bits": (lambda: changed(in_strips(COLOUR), 273, count=2), DAMAGED),
    "a strip in the head": (lambda: changed(in_strips(DEEP), 273, 0, at=1), DAMAGED),
    "a strip in the head of a palette": (lambda: changed(strips("P", "raw"), 273, 4, at=1), DAMAGED),
    "too few strips of a palette": (lambda: changed(strips("P"), 257, 9000), DAMAGED),
    "too few strips of JPEG": (lambda: changed(strips("RGB", "jpeg"), 257, 9000), DAMAGED),
    "too few tiles": (lambda: changed(tiles(GREY, "none"), 322, 1), DAMAGED),
    "tiles of no width": (lambda: changed(tiles(GREY), 322, 0), DAMAGED),
    "tiles of no height, JPEG": (lambda: changed(tiles(COLOUR, "jpeg"), 323, 0), DAMAGED),
    "strips of no height": (lambda: changed(strips("P"), 278, 0), DAMAGED),
    "damage in a strip of CMYK": (lambda: zeroed(strips("CMYK")), DAMAGED),
    "damage in a strip of CMYK, Deflate": (lambda: zeroed(strips("CMYK", "tiff_adobe_deflate")), DAMAGED),
    "damage in a strip of JPEG": (lambda: zeroed(strips("RGB", "jpeg")), DAMAGED),
    "damage in a strip of fax": (lambda: zeroed(strips("1", "group4")), DAMAGED),
    "damage in a strip": (lambda: strips("P").replace(strips("P")[40:90], bytes(50)), DAMAGED),
    "no height": (lambda: tiff(GREY, {257: 0}), DAMAGED),
    "no width, deep": (lambda: tiff(DEEP, {256: 0}), DAMAGED),
    "width of 2^31": (lambda: tiff(DEEP, {256: 2**31}), TOO_LARGE),
    "height of 2^32 - 1": (lambda: tiff(GREY, {257: 2**32 - 1}), TOO_LARGE),
    "tiles of 2^31": (lambda: changed(tiles(GREY), 322, 2**31), TOO_LARGE),
    "65535 channels": (lambda: tiff(GREY, {277: 65535}), "has 65535 channels that are no RGB; save it as grey or RGB"),
    "65535 channels of CMYK": (lambda: changed(strips("CMYK"), 277, 65535), "has 65535 channels that are no RGB"),
    "bits of more channels": (lambda: tiff(GREY, {258: (8, 8)}), DAMAGED),
    "no channels": (lambda: tiff(GREY, {277: 0}), DAMAGED),
    "no bits": (lambda: tiff(GREY, {258: 0}), DAMAGED),
    "65535 bits": (lambda: tiff(GREY, {258: 65535}), "has 1 channels of 65535 bits|is truncated or damaged"),
    "unknown colours": (
        lambda: tiff(DEEP, {262: 0xFF0002}),
        "has colours that are no RGB, with 16 bits; convert it to",
    ),
    "CMYK with 16 bits": (lambda: tiff(np.dstack([DEEP, DEEP_GREY]), {262: 5}), "has colours that are no RGB, with 16"),
    "black or white": (lambda: changed(tiff(GREY), 262, kind=2), "doesn't tell if 0 is black or white"),
    "black or white, deep": (lambda: changed(tiff(DEEP_GREY), 262, kind=11), "doesn't tell if 0 is black or white"),
    "a JPEG with transparency": (
        lambda: saved(SMOOTH.convert("RGBA"), compression="jpeg"),
        "is a JPEG with transparency; save it without transparency",
    ),
    "many long tags": (many_long_tags, DAMAGED),
    "many entries": (lambda: big(2**63), DAMAGED),
    "BigTIFF's directory outside": (lambda: big(0, 2**63), DAMAGED),
    "directory in the head": (lambda: b"II*\0\x05\0\0\0" + bytes(100), DAMAGED),
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(make: Callable[[], bytes], reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Each reason is one line that names the file and a fix; libraries print nothing, and it takes no time."""
    content = make()
    start = time.process_time()
    with pytest.raises(FileError, match=f"^scan.tif: ({reason})") as refused:
        read(content)
    assert time.process_time() - start < 1
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


SOUND: dict[str, tuple[Callable[[], bytes], np.ndarray]] = {
    "size of an uncompressed strip": (lambda: changed(tiff(GREY), 279, 2**31), GREY),
    "size of a deep uncompressed strip": (lambda: changed(tiff(DEEP), 279, 2**32 - 1), DEEP),
    "an orientation outside": (lambda: changed(tiff(GREY, {274: (1, 1)}), 274, count=100), GREY),
    "more sizes than tiles": (lambda: changed(tiles(DEEP), 325, count=2**28), DEEP),
    "a profile longer than the file": (lambda: changed(tiff(GREY, {34675: (7, 7, 7)}), 34675, count=2**29), GREY),
    "colours as bytes of no type": (lambda: changed(tiff(DEEP_GREY), 262, kind=7), DEEP_GREY),
    "no position of a next directory": (lambda: tiff(GREY)[:-4], GREY),
    "half a position of a next directory": (lambda: tiff(DEEP_GREY)[:-2], DEEP_GREY),
    "no sizes of strips": (lambda: tiff(DEEP, {279: ()}), DEEP),
    "rows of a strip": (lambda: changed(tiff(COLOUR), 278, 2**32 - 1), COLOUR),
}


@pytest.mark.parametrize(("make", "pixels"), SOUND.values(), ids=SOUND)
def test_wrong_numbers_that_no_pixel_depends_on(
    make: Callable[[], bytes], pixels: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is certain without them is read, and nothing is printed."""
    np.testing.assert_array_equal(read(make()), pixels)
    assert capfd.readouterr() == ("", "")


def test_a_circle_of_directories_ends() -> None:
    """A directory that is its own next one is one page."""
    np.testing.assert_array_equal(read(circle()), GREY)
