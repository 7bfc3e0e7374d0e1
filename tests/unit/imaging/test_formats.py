"""PNG, JPEG and files that are neither: what is read, and what is refused."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from medloop.imaging.files import FileError
from medloop.imaging.formats import read_image
from medloop.imaging.pictures import pixel_digest, write_png

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)


@pytest.mark.parametrize(
    "pixels", [GREY, GREY.astype(np.uint16) * 1000, np.stack([GREY, GREY + 1, GREY + 2], axis=-1)], ids=str
)
def test_png_keeps_its_pixels(tmp_path: Path, pixels: np.ndarray) -> None:
    """8-bit grey, 16-bit grey and RGB come back as they were written, twice with the same bytes."""
    write_png(tmp_path / "a.png", pixels)
    write_png(tmp_path / "b.png", pixels)

    read = read_image(tmp_path / "a.png")
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read, pixels)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    """A photograph with an orientation tag is turned upright."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    Image.fromarray(GREY).save(tmp_path / "turned.png", exif=exif)

    np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), np.rot90(GREY, -1))


def test_written_png_has_no_text(tmp_path: Path) -> None:
    """Text and EXIF of the source don't reach a copy."""
    info = PngInfo()
    info.add_text("Patient", "Hans Müller")
    Image.fromarray(GREY).save(tmp_path / "a.png", pnginfo=info)
    write_png(tmp_path / "b.png", read_image(tmp_path / "a.png"))

    content = (tmp_path / "b.png").read_bytes()
    assert b"tEXt" not in content
    assert b"iTXt" not in content
    assert b"eXIf" not in content
    assert b"Hans" not in content


def test_transparency_and_palettes_become_plain_pixels(tmp_path: Path) -> None:
    """RGBA and palette images are read as RGB, 1-bit ones as grey."""
    Image.fromarray(np.dstack([GREY] * 3 + [GREY])).save(tmp_path / "rgba.png")
    Image.fromarray(GREY).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(GREY > 20).save(tmp_path / "bits.png")

    assert read_image(tmp_path / "rgba.png").shape == (6, 8, 3)
    assert read_image(tmp_path / "palette.png").shape == (6, 8, 3)
    assert set(np.unique(read_image(tmp_path / "bits.png"))) == {0, 255}


def test_colour_image_of_greys_has_its_grey_twins_digest() -> None:
    """The same picture saved as grey and as RGB counts as the same pixels; another picture doesn't."""
    assert pixel_digest(np.dstack([GREY] * 3)) == pixel_digest(GREY)
    assert pixel_digest(GREY + 1) != pixel_digest(GREY)
    assert pixel_digest(GREY.reshape(8, 6)) != pixel_digest(GREY)


def _text(path: Path) -> None:
    path.write_text("not an image")


def _truncated(path: Path) -> None:
    write_png(path, np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:900])


def _bomb(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def _large(path: Path) -> None:
    Image.new("1", (11_000, 10_000)).save(path)


def _animation(path: Path) -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(GREY + 9)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def _gif(path: Path) -> None:
    Image.fromarray(GREY).save(path, format="GIF")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_text, "no PNG or JPEG"),
        (_truncated, "truncated"),
        (_bomb, "pixels"),
        (_large, "pixels"),
        (_animation, "animation"),
        (_gif, "no PNG or JPEG"),
        (Path.touch, "empty"),
        (Path.mkdir, "no regular file"),
    ],
)
def test_refused(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    """What is no sound image is refused in one line that begins with its name; its reason names no patient."""
    path = tmp_path / "Hans Müller.png"
    make(path)

    with pytest.raises(FileError, match=reason) as refused:
        read_image(path)
    assert str(refused.value).startswith("Hans Müller.png: ")
    assert "Müller" not in refused.value.reason


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    """A named pipe would wait for a writer for ever; it is refused."""
    import os

    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(FileError, match="no regular file"):
        read_image(tmp_path / "pipe.png")


def test_damaged_metadata_raises_nothing_but_file_errors(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """An EXIF rational stored as text makes Pillow raise TypeError, other damage makes it warn: neither gets out."""
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0  # orientation and horizontal resolution
    Image.fromarray(GREY).save(tmp_path / "whole.jpg", exif=exif)
    content = (tmp_path / "whole.jpg").read_bytes()
    entry = content.index(struct.pack(">HH", 0x011A, 5))
    for kind in range(1, 14):
        for count in (0, 1, 2, 255):
            damaged = content[: entry + 2] + struct.pack(">HI", kind, count) + content[entry + 8 :]
            (tmp_path / "damaged.jpg").write_bytes(damaged)
            with contextlib.suppress(FileError):
                read_image(tmp_path / "damaged.jpg")
    assert not recwarn.list
