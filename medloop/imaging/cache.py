"""Prepared data on disk, made once and mapped by every process that needs it.

An entry is one safetensors file, named by a digest of all that its content follows from: the source files' bytes, the
preprocessing rule, the version of the code. Mapped tensors are read from disk as they are touched: processes share one
copy in the page cache, and a data set larger than memory streams.

No entry is trusted. One that is torn, damaged, hostile or another's is made again, with a line in the log; where the
disk is full or may not be written, data stays in memory.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
import weakref
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from medloop.container.paths import CACHE_VARIABLE, warm_pool_cache
from medloop.errors import SettingError
from medloop.file_state import file_state

LIMIT_VARIABLE = "MEDLOOP_CACHE_GB"
DEFAULT_LIMIT_GB = 50.0
IN_USE_SECONDS = 600.0
"""Processes of one job open the cache within this time of each other; what one has made none of them evicts."""
_SUFFIX = ".safetensors"
_ENTRY = re.compile(rf"[0-9a-f]{{64}}{re.escape(_SUFFIX)}")
_NEW = ".new-"
_ABANDONED_SECONDS = 86_400.0
"""A file that a killed process was writing is removed after a day."""
_OCCUPIED = (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST)

Tensors = dict[str, Tensor]
TensorCheck = Callable[[Mapping[str, Tensor]], bool]
"""True if tensors have the requested names, types and shapes."""


class _BadEntryError(Exception):
    """A problem of an entry that makes it unusable."""


def make_key(*parts: Any) -> str:
    """The name of an entry: a digest of everything that its content follows from.

    Args:
        parts: What JSON can hold.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits.

    Raises:
        OSError: It can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass
class Cache:
    """Entries in a folder, for any number of processes and threads at once.

    Args:
        folder: Contains the entries; None keeps everything in memory.
        limit: Bytes that entries may take before the least recently used go. What was used since the cache was
            opened stays, so that the data of a running job may exceed the limit.
    """

    folder: Path | None
    limit: int
    _opened: float = field(default_factory=time.time, init=False)
    _broken: bool = field(default=False, init=False)
    _written: int | None = field(default=None, init=False)
    """Bytes written since entries were last counted; None before that."""
    _verified: dict[str, str] = field(default_factory=dict, init=False)
    """The state of each entry's file when its checksum was verified, by name."""

    @classmethod
    def open(cls, environ: Mapping[str, str]) -> Cache:
        """Open the cache that the environment names.

        Args:
            environ: MEDLOOP_CACHE_DIR is the folder; without it the volume that outlives a job in SageMaker's warm
                pool, and where there is none a temporary folder that goes with the process (or with the first of
                those that torchrun started). MEDLOOP_CACHE_GB is the
                limit, 50 by default; 0 writes nothing.

        Raises:
            SettingError: MEDLOOP_CACHE_GB is no size.
        """
        limit = _limit(environ)
        if limit == 0:
            return cls(None, 0)
        named = environ.get(CACHE_VARIABLE) or warm_pool_cache()
        try:
            if named:
                folder = Path(named)
                folder.parent.mkdir(parents=True, exist_ok=True)
                folder.mkdir(mode=0o700, exist_ok=True)
                return cls(folder, limit)
            folder = _temporary_folder(environ)
        except OSError as error:
            print(f"cache: {error}; prepared data stays in memory", flush=True)
            return cls(None, limit)
        cache = cls(folder, limit)
        if environ.get("LOCAL_RANK", "0") == "0":
            weakref.finalize(cache, _remove, folder, os.getpid())
        return cache

    def take(self, key: str, make: Callable[[], Mapping[str, Tensor]], check: TensorCheck | None = None) -> Tensors:
        """An entry's tensors, made where they aren't there yet.

        Args:
            key: From `make_key`.
            make: Computes the tensors, on the CPU.
            check: Refuses an entry with other tensors than requested.

        Returns:
            Tensors on the CPU, mapped from the file where it could be written. Writing into them changes no file.

        Raises:
            ValueError: The key is no digest.
        """
        if not _ENTRY.fullmatch(key + _SUFFIX):
            raise ValueError(f"{key!r} is no digest")
        if self.folder is None:
            return dict(make())
        path = self.folder / (key + _SUFFIX)
        tensors = self._read(path, check)
        if tensors is not None:
            return tensors
        made = {name: tensor.contiguous() for name, tensor in make().items()}
        if self._broken or not self._write(path, made):
            return made
        return self._read(path, check) or made

    def _read(self, path: Path, check: TensorCheck | None) -> Tensors | None:
        try:
            status = os.lstat(path)
        except OSError:
            return None
        try:
            tensors = self._map(path, status)
            if check is not None and not check(tensors):
                raise _BadEntryError("its tensors have other names, types or shapes")
            self._mark_used(path, status)
        # A hostile file may raise any exception; the data is made again.
        except Exception as error:
            print(f"cache: entry {path.stem[:12]} can't be used ({error}); it is made again", flush=True)
            return None
        return tensors

    def _map(self, path: Path, status: os.stat_result) -> Tensors:
        if not stat.S_ISREG(status.st_mode):
            raise _BadEntryError("it is no file")
        # safetensors checks its own lengths against the file's.
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != path.stem:
                raise _BadEntryError("it belongs to another name")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if self._verified.get(path.stem) != file_state(status) and metadata.get("crc32") != _checksum(tensors):
            raise _BadEntryError("its checksum is wrong")
        return tensors

    def _mark_used(self, path: Path, status: os.stat_result) -> None:
        """Set the time of the last use, and remember the state that this gives a file whose content was verified."""
        with path.open("rb") as file:
            if file_state(os.fstat(file.fileno())) == file_state(status):
                os.utime(file.fileno(), (time.time(),) * 2)
                self._verified[path.stem] = file_state(os.fstat(file.fileno()))

    def _write(self, path: Path, tensors: Tensors) -> bool:
        """Write an entry at once or not at all; returns whether it is there."""
        new = None
        try:
            handle, new = tempfile.mkstemp(prefix=_NEW, dir=path.parent)  # only its owner may read it
            os.close(handle)
            save_file(tensors, new, {"key": path.stem, "crc32": _checksum(tensors)})
            size = os.stat(new).st_size
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            os.replace(new, path)
        except (OSError, SafetensorError) as error:
            self._give_up(error, new)
            return False
        self._trim(size)
        return True

    def _give_up(self, error: Exception, new: str | None) -> None:
        if new is not None:
            Path(new).unlink(missing_ok=True)
        # A folder with content in place of one entry: other entries may still be writable.
        if getattr(error, "errno", None) not in _OCCUPIED:
            self._broken = True
        print(f"cache: {self.folder} can't be written ({error}); prepared data stays in memory", flush=True)

    def _trim(self, size: int) -> None:
        """Remove the least recently used entries where all of them take too much; `size` bytes were just added."""
        # Counting takes a look at each entry: not at every write.
        self._written = None if self._written is None else self._written + size
        if self._written is not None and self._written < self.limit / 16:
            return
        self._written = 0
        now, entries = time.time(), []
        for item, status in _files(self.folder):
            if _ENTRY.fullmatch(item.name):
                entries.append((status.st_mtime, status.st_size, item.path))
            elif item.name.startswith(_NEW) and status.st_mtime < now - _ABANDONED_SECONDS:
                _unlink(item.path)
        total = sum(size for _, size, _ in entries)
        for used, size, path in sorted(entries):
            if total <= self.limit or used >= self._opened - IN_USE_SECONDS:
                return
            # Another process may have it mapped: its pages stay until it lets go.
            _unlink(path)
            total -= size


def _temporary_folder(environ: Mapping[str, str]) -> Path:
    """A new folder; the processes that torchrun started together share one, named after torchrun's own process."""
    if environ.get("LOCAL_WORLD_SIZE", "1") == "1":
        return Path(tempfile.mkdtemp(prefix="medloop-"))
    folder = Path(tempfile.gettempdir()) / f"medloop-{os.getuid()}-{os.getppid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise PermissionError(f"{folder} is not this user's")
    return folder


def _limit(environ: Mapping[str, str]) -> int:
    text = environ.get(LIMIT_VARIABLE) or str(DEFAULT_LIMIT_GB)
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise SettingError(f"{LIMIT_VARIABLE}={text}: give gigabytes, such as 50; 0 keeps prepared data in memory")
    return round(limit * 1e9)


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 over names, types, shapes and bytes."""
    value = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode(), value)
        value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"


def _files(folder: Path | None) -> Sequence[tuple[os.DirEntry[str], os.stat_result]]:
    """The folder's files; files that another process removes in the meantime are skipped."""
    files = []
    with contextlib.suppress(OSError):
        for item in os.scandir(folder):
            with contextlib.suppress(OSError):
                status = item.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    files.append((item, status))
    return files


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _remove(folder: Path, owner: int) -> None:
    # A forked child runs this too.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
