"""Archives from outside are read within limits of memory and disk, whichever member has the bomb."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medloop.documents.archive import ArchiveError, Limits, open_archive, unpack

LIMITS = Limits(1 << 30, 100)
BLOCK = 512


def header(kind: bytes, size: int, name: str = "x") -> bytes:
    """One block: the header of a member."""
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def long_header(kind: bytes, size: int = 96 << 20) -> Callable[[], Iterator[bytes]]:
    """A member whose extended header has that many bytes."""

    def blocks() -> Iterator[bytes]:
        yield header(kind, size)
        yield from (bytes(1 << 20) for _ in range(size >> 20))
        yield header(tarfile.REGTYPE, 0)

    return blocks


def chain(kind: bytes) -> Callable[[], Iterator[bytes]]:
    """Extended headers of extended headers."""

    def blocks() -> Iterator[bytes]:
        yield from (header(kind, 0) for _ in range(6000))
        yield header(tarfile.REGTYPE, 0)

    return blocks


def with_checksum(block: bytearray) -> bytes:
    """A header with the checksum of its bytes."""
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


def sparse_map() -> Iterator[bytes]:
    """A sparse member whose map is continued again and again (GNU's old format)."""
    first = bytearray(header(tarfile.GNUTYPE_SPARSE, 0))
    first[482] = 1  # the map continues in the next block
    yield with_checksum(first)
    block = bytearray(f"{1:011o}\0{1:011o}\0".encode() * 21 + bytes(8))
    block[504] = 1
    for _ in range(40):
        yield bytes(block) * 1000
    yield bytes(BLOCK)


def huge_sparse() -> Iterator[bytes]:
    """A sparse member that would be a file of 8 TiB (pax format 1.0)."""
    body = b"0\n".ljust(BLOCK, b"\0")
    member = tarfile.TarInfo("GNUSparseFile.0/a")
    member.size = len(body)
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a"}
    member.pax_headers["GNU.sparse.realsize"] = str(8 << 40)
    yield member.tobuf(tarfile.PAX_FORMAT) + body


def many_members() -> Iterator[bytes]:
    """Empty members without end."""
    yield from (header(tarfile.REGTYPE, 0, f"f{number}") for number in range(200))


def unknown_type() -> Iterator[bytes]:
    """A member of an unknown type, which is skipped, and longer than all that is allowed."""
    yield header(b"Z", 8 << 30)
    yield bytes(BLOCK)


BOMBS = {
    "pax": long_header(b"x"),
    "global pax": long_header(b"g"),
    "long name": long_header(b"L"),
    "long link": long_header(b"K"),
    "pax chain": chain(b"x"),
    "long name chain": chain(b"L"),
    "sparse map": sparse_map,
    "huge sparse": huge_sparse,
    "many members": many_members,
    "unknown type": unknown_type,
}


def packed(blocks: Iterator[bytes]) -> bytes:
    """A tar.gz."""
    target = io.BytesIO()
    with gzip.GzipFile(fileobj=target, mode="wb", compresslevel=1) as file:
        for block in blocks:
            file.write(block)
        file.write(bytes(2 * BLOCK))
    return target.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_within_limits(tmp_path: Path, name: str) -> None:
    """With a reason, before they take more than some megabytes of memory or of disk."""
    content = packed(BOMBS[name]())
    tracemalloc.start()
    with pytest.raises(ArchiveError, match=r".+"):
        unpack(content, tmp_path, LIMITS)
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) == 0


def test_content_that_no_member_counts_is_limited(tmp_path: Path) -> None:
    """A sparse member of ten bytes, by its header, with 4 MiB that are skipped (GNU's old format)."""
    first = bytearray(header(tarfile.GNUTYPE_SPARSE, 4 << 20))
    first[483:495] = f"{10:011o}\0".encode()  # the size of the file
    content = packed(iter([with_checksum(first), bytes(4 << 20), header(tarfile.REGTYPE, 0)]))
    with pytest.raises(ArchiveError, match=r"longer than 0\.00101 GiB when unpacked"):
        unpack(content, tmp_path, Limits(1 << 20, 10))
    unpack(content, tmp_path, Limits(8 << 20, 10))


def sound(name: str = "model/weights", **more: str) -> bytes:
    """An uncompressed archive of one file."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo(name)
        member.size, member.pax_headers = 5, more
        archive.addfile(member, io.BytesIO(b"hello"))
    return target.getvalue()


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, bytes])
@pytest.mark.parametrize("name", ["weights", f"{'d' * 90}/{'n' * 200}", "Käse/脳"])
def test_sound_archives_are_unpacked(tmp_path: Path, compress: Callable[[bytes], bytes], name: str) -> None:
    """In each compression that tarfile knows, with long names and attributes."""
    path = tmp_path / "model.tar.gz"
    path.write_bytes(compress(sound(name, comment="c" * 10_000)))
    for source in (path, path.read_bytes()):
        unpack(source, tmp_path / "into", LIMITS)
        assert (tmp_path / "into" / name).read_bytes() == b"hello"
    with open_archive(path, LIMITS) as archive:
        assert [archive.read(member, 3) for member in archive.members()] == [b"hel"]


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"no archive", gzip.compress(b"no archive" * 100), gzip.compress(sound())[:60]),
        *(b"BZh9 torn", b"\xfd7zXZ\0torn", sound("../../outside"), gzip.compress(sound())[:20] + b"\xff" * 40),
    ],
    ids=["empty", "no archive", "gzip of text", "truncated", "torn bz2", "torn xz", "outside", "damaged"],
)
def test_damaged_and_unsafe_archives_are_refused(tmp_path: Path, content: bytes) -> None:
    """By one error with a reason."""
    with pytest.raises(ArchiveError, match=r".+"):
        unpack(content, tmp_path / "into", LIMITS)
    assert not list(tmp_path.rglob("outside"))
