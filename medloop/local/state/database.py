"""The SQLite file of the local backend: opened for writing or reading, its errors with their fixes, its permissions."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from medloop.errors import TargetError

_BUSY_SECONDS = 30.0
_RESTORE = "restore it from a backup, or set MEDLOOP_HOME to another folder"
_FIXES = {
    "SQLITE_BUSY": "another process has locked it; try again when that process has ended",
    "SQLITE_FULL": "free some space, or set MEDLOOP_HOME to a folder on another disk",
    "SQLITE_IOERR": "the disk may be full; free some space, or set MEDLOOP_HOME to a folder on another disk",
    "SQLITE_READONLY": "make it writable, or set MEDLOOP_HOME to another folder",
    "SQLITE_CANTOPEN": "make it and its folder writable, or set MEDLOOP_HOME to another folder",
}
"""The fix, by the beginning of SQLite's name for the error."""
_LOCKED = ("SQLITE_BUSY", "SQLITE_LOCKED")


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Raise SQLite's errors of the file or its disk as a TargetError with the fix; a bug stays unchanged."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
            raise
        fix = next((text for name, text in _FIXES.items() if error.sqlite_errorname.startswith(name)), _RESTORE)
        raise TargetError(f"{path}: can't be used as medloop's database ({error}); {fix}") from error


def connect(path: Path) -> sqlite3.Connection:
    """A connection without implicit transactions."""
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA synchronous = FULL")
    except BaseException:
        db.close()
        raise
    return db


def connect_read_only(path: Path) -> sqlite3.Connection | None:
    """A connection that writes nothing; None if SQLite can't read the file without an index of the WAL next to it."""
    db = sqlite3.connect(f"file:{quote(os.fspath(path))}?mode=ro", isolation_level=None, uri=True)
    try:
        db.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError as error:
        db.close()
        if error.sqlite_errorname.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
            return None
        raise
    return db


@contextmanager
def copied(path: Path) -> Iterator[Path]:
    """A copy of a database and its WAL in a temporary folder. No process writes the original: its index is missing."""
    with TemporaryDirectory(prefix="medloop-") as folder:
        for name in (path.name, f"{path.name}-wal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(path.with_name(name), Path(folder, name))
        yield Path(folder, path.name)


def read_version(db: sqlite3.Connection) -> int:
    """The schema's version; 0 in a new file."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def has_tables(db: sqlite3.Connection) -> bool:
    """True unless the file is new or was truncated."""
    return db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None


def enter_wal(db: sqlite3.Connection) -> None:
    """Switch to WAL; two processes that switch at once get "locked" without SQLite's own wait."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if time.monotonic() > deadline or not error.sqlite_errorname.startswith(_LOCKED):
                raise
            time.sleep(0.05)


def wipe_deleted(db: sqlite3.Connection) -> None:
    """Overwrite what was deleted, in the file and in its WAL, unless another process uses the file now."""
    with suppress(sqlite3.OperationalError):
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def is_writable(path: Path) -> bool:
    """True if a file and its folder can be written."""
    effective = os.access in os.supports_effective_ids
    return all(os.access(item, os.W_OK, effective_ids=effective) for item in (path, path.parent))


def make_private_file(path: Path) -> None:
    """Make an empty file that only its owner may read, unless it exists; readable as its folder is shared.

    Raises:
        TargetError: It can't be made.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        path.chmod(private_mode(path.parent.stat().st_mode))
    except FileExistsError:
        return
    except OSError as error:
        raise TargetError(f"{path}: can't be written ({error.strerror}); set MEDLOOP_HOME to another folder") from error


def make_private(path: Path) -> None:
    """Take a database of an earlier version, and its folder, from users who may not write there anyway."""
    folder = path.parent
    with suppress(OSError):  # another user's
        mode = stat.S_IMODE(folder.stat().st_mode)
        for item in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            with suppress(FileNotFoundError):
                item.chmod(private_mode(mode))
        folder.chmod((mode & ~0o077) | (mode & 0o070 if mode & 0o020 else 0) | (mode & 0o007 if mode & 0o002 else 0))


def private_mode(mode: int) -> int:
    """Permissions of a private file in a folder of this mode: its owner's, and of those who may write the folder."""
    return 0o600 | (0o060 if mode & 0o020 else 0) | (0o006 if mode & 0o002 else 0)
