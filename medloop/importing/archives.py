"""Sources that are one file: an archive is unpacked within limits, a DICOMDIR stands for its folder. Torch-free."""

from __future__ import annotations

import os
import shutil
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from medloop.documents.archive import ArchiveError, Limits, open_archive
from medloop.errors import DataError, TargetError

MAX_FILES = 2_000_000
MAX_RATIO = 200
"""Unpacked bytes by packed ones: images compress by 2 to 20, an empty label map by 100."""
ALWAYS = 1 << 30
"""Unpacked bytes that are no bomb at any ratio."""
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
DICOMDIR = "DICOMDIR"


def is_archive(path: Path) -> bool:
    """True if a file stands for a folder: an archive, or a DICOMDIR."""
    name = path.name
    return name.upper() == DICOMDIR or name.lower().endswith(_TARS) or zipfile.is_zipfile(path)


@contextmanager
def open_folder(source: Path, scratch: Path) -> Iterator[Path]:
    """Give the folder of a source.

    Args:
        source: A folder, an archive, or a DICOMDIR.
        scratch: A folder that isn't there, for the content of an archive; it vanishes with the block.

    Raises:
        DataError: The source is none of these, or an archive is damaged, unsafe or exceeds a limit.
        TargetError: The disk is too small for the content.
    """
    if source.is_dir():
        yield source
    elif not source.is_file():
        raise DataError(f"{source}: isn't there; give a folder, a zip file or a DICOMDIR")
    elif source.name.upper() == DICOMDIR:
        yield source.parent
    else:
        try:
            scratch.mkdir(parents=True)
            _unpack(source, scratch)
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _unpack(source: Path, target: Path) -> None:
    try:
        if zipfile.is_zipfile(source):
            _unpack_zip(source, target)
        elif source.name.lower().endswith(_TARS):
            _unpack_tar(source, target)
        else:
            raise DataError(f"{source}: is no folder, zip or tar file, or DICOMDIR; give the folder that contains it")
    except ArchiveError as error:
        raise DataError(f"{source}: can't be unpacked: {error}; unpack it yourself, and give the folder") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, tarfile.TarError, ValueError, OverflowError):
        raise DataError(f"{source}: is damaged; copy it again") from None
    except NotImplementedError:
        raise DataError(f"{source}: is compressed as Python can't read; unpack it, and give the folder") from None
    except (FileExistsError, NotADirectoryError):
        raise DataError(f"{source}: has a file and a folder of one name; unpack it, and give the folder") from None
    except OSError as error:
        raise DataError(f"{source}: can't be unpacked ({error.strerror}); unpack it, and give the folder") from None


def _unpack_zip(source: Path, target: Path) -> None:
    with zipfile.ZipFile(source) as archive:
        members = [member for member in archive.infolist() if not member.is_dir() and is_shown(member.filename)]
        num_bytes = sum(member.file_size for member in members)
        _check_size(source, target, len(members), num_bytes)
        if sum(member.compress_size for member in members) > source.stat().st_size:
            raise ArchiveError("its members overlap")
        if any(member.flag_bits & 1 for member in members):
            raise ArchiveError("it is encrypted")
        for member in members:
            path = _safe_path(target, member.filename)
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as content, path.open("xb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
            moment = time.mktime((*member.date_time, 0, 0, -1))
            os.utime(path, (moment, moment))


def _unpack_tar(source: Path, target: Path) -> None:
    limit = max(ALWAYS, MAX_RATIO * source.stat().st_size)
    with open_archive(source, Limits(min(limit, shutil.disk_usage(target).free), MAX_FILES)) as archive:
        for member in archive.members():
            if not member.isfile() or not is_shown(member.name):
                continue
            path = _safe_path(target, member.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            content = archive.tar.extractfile(member)
            with path.open("xb") as file:
                shutil.copyfileobj(content, file, 1 << 20)  # type: ignore[arg-type]
            os.utime(path, (member.mtime, member.mtime))


def _check_size(source: Path, target: Path, num_files: int, num_bytes: int) -> None:
    if num_files > MAX_FILES:
        raise ArchiveError(f"it contains {num_files} files, more than {MAX_FILES}")
    if num_bytes > max(ALWAYS, MAX_RATIO * source.stat().st_size):
        raise ArchiveError(f"it expands to {num_bytes >> 20} MiB, more than {MAX_RATIO} times its size")
    if num_bytes > (free := shutil.disk_usage(target).free):
        raise TargetError(f"{target}: has {free >> 20} MiB free, and {source.name} needs {num_bytes >> 20}; free some")


def is_shown(name: str) -> bool:
    """True if no part of a member's path is hidden or of an operating system."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return not any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in parts)


def _safe_path(target: Path, name: str) -> Path:
    """The path of a member below a folder.

    Raises:
        ArchiveError: It would be elsewhere, or two members have it.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name:
        raise ArchiveError(f"member {name!r} would be outside its folder")
    result = target / path
    if result.exists():
        raise ArchiveError(f"member {name!r} is there twice")
    return result
