"""DICOM files, read within limits: what is hostile or damaged is refused in one line. Torch-free."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medloop.dicom.elements import tag_of
from medloop.dicom.library import load_pydicom
from medloop.imaging.files import DAMAGED, FileError

PREAMBLE = 128
_MAGIC = b"DICM"
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_START = 1024
MAX_FILE = 4 << 30
"""Bytes of a file: an enhanced CT of 4,000 slices has 2 GiB."""
MAX_INFLATED = 256 << 20
"""Bytes of a deflated file's content."""
_BARE = (b"\x08\x00", b"\x02\x00")
"""Groups that a file without preamble begins with, as older programs write it."""


def is_dicom(path: Path) -> bool:
    """True if a file's first bytes are those of DICOM, with or without a preamble."""
    try:
        with path.open("rb") as file:
            start = file.read(PREAMBLE + 8)
    except OSError:
        return False
    return start[PREAMBLE:][:4] == _MAGIC or _is_bare(start)


def _is_bare(start: bytes) -> bool:
    """True if the bytes are an element of an early group: a small number, then a VR or a short length."""
    if start[:2] not in _BARE or len(start) < 12:
        return False
    has_vr = start[4:6].isalpha() and start[4:6].isupper()
    return has_vr or int.from_bytes(start[4:8], "little") <= 128


def read_dataset(path: Path, tags: Sequence[str | int] | None, *, pixels: bool = False) -> Any:
    """Read some elements of a file, without the pixels by default; no other element is kept.

    Args:
        path: The file.
        tags: Keywords or tags; None reads all.
        pixels: Read what is behind the header too.

    Raises:
        FileError: It is no DICOM file, is damaged, or exceeds a limit.
    """
    pydicom = load_pydicom()
    _check_limits(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(
                path,
                force=True,
                stop_before_pixels=not pixels,
                specific_tags=None if tags is None else list(map(tag_of, tags)),
            )
            _set_syntax(dataset)
            return dataset
    except RecursionError:
        raise FileError(path, "has sequences that are nested too deeply; export it again or remove it") from None
    except OSError as error:
        raise FileError(path, f"can't be read ({error.strerror or 'unexpected end'}); copy it again") from None
    except Exception:  # The parser raises what it meets: of struct, codecs, arithmetic.
        raise FileError(path, DAMAGED) from None


def _set_syntax(dataset: Any) -> None:
    """Name the transfer syntax in which a file without file meta information was read."""
    from pydicom import uid

    if "TransferSyntaxUID" not in dataset.file_meta:
        is_implicit, is_little = dataset.original_encoding
        explicit = uid.ExplicitVRLittleEndian if is_little else uid.ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if is_implicit else explicit


def _check_limits(path: Path) -> None:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(_START)
    except OSError as error:
        raise FileError(path, f"can't be read ({error.strerror}); check its permissions") from None
    if size > MAX_FILE:
        raise FileError(path, f"has {size} bytes; {MAX_FILE >> 30} GiB is the limit: export it in several files")
    if _DEFLATED in start:
        _check_inflated(path, start)


def _check_inflated(path: Path, start: bytes) -> None:
    """Refuse a deflated file whose content is large, before it is decompressed into memory."""
    try:
        (length,) = struct.unpack_from("<I", start, PREAMBLE + 12)
        stream, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        with path.open("rb") as file:
            file.seek(PREAMBLE + 16 + length)
            while not stream.eof and (chunk := stream.unconsumed_tail or file.read(1 << 16)):
                size += len(stream.decompress(chunk, 1 << 20))
                if size > MAX_INFLATED:
                    raise FileError(path, f"inflates to more than {MAX_INFLATED >> 20} MiB; save it uncompressed")
    except (struct.error, zlib.error, OSError):
        raise FileError(path, DAMAGED) from None
