"""Contents of cases that an earlier `medloop run` checked: files whose state is unchanged aren't read again.

One SQLite file in the user's cache folder for each version of the code that reads images. It contains no name: a row's
key is a keyed hash of the case's path, and messages are stored without paths. It is a cache: what can't be read or
written is checked again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import sqlite3
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from medloop.cloud.build_inputs import code_digest
from medloop.cloud.definition_cache import cache_folder
from medloop.documents.split import Task
from medloop.file_state import file_state, is_settled
from medloop.imaging import formats
from medloop.imaging.checked_cases import Content
from medloop.imaging.formats import VOLUME_SUFFIXES
from medloop.imaging.image_facts import ImageFacts
from medloop.imaging.layouts import IMAGE, LABEL, RawCase
from medloop.imaging.network_grid import VolumeGrid
from medloop.imaging.problems import Problem

MAX_BYTES = 2**30
"""Size from which a file is begun again: rows of data sets that are gone are never deleted."""
MAX_VERSIONS = 4
"""Files that are kept, of versions of the code."""
_ROWS = 1000
"""Rows of one query, or of one transaction."""
_BUSY_SECONDS = 1.0
_SCHEMA = "CREATE TABLE IF NOT EXISTS contents (key BLOB PRIMARY KEY, state BLOB, content TEXT) WITHOUT ROWID"


class RememberedChecks:
    """Contents of a data set's cases that earlier checks read.

    Args:
        database: The cache's file.
        root: The data set's folder.
        task: The data set's.
        labels: Class names by label value, which decide whether a label can be used.
    """

    def __init__(self, database: sqlite3.Connection, root: Path, task: Task, labels: Sequence[str] | None) -> None:
        self.database, self.root, self.task = database, os.path.realpath(root), task
        self.key = hashlib.sha256(_secret(database) + json.dumps([task, labels]).encode()).digest()
        self.states: deque[bytes | None] = deque()
        """States of the cases that `recall` didn't know, in order; None if the case can't be remembered."""
        self.rows: list[tuple[bytes, bytes, str]] = []
        self.facts: dict[str, ImageFacts] = {}

    def recall(self, cases: Sequence[RawCase]) -> list[Content | None]:
        """The content of each case; None if it is to be read."""
        return [
            content for start in range(0, len(cases), _ROWS) for content in self._recall(cases[start : start + _ROWS])
        ]

    def keep(self, case: RawCase, content: Content | None) -> None:
        """Remember the content of the next case that `recall` didn't know; None forgets it."""
        state = self.states.popleft()
        if content is not None and state is not None:
            self.rows.append((self._row(case), state, _text(case, content)))
        if len(self.rows) >= _ROWS:
            self._write()

    def close(self) -> None:
        """Write what was kept, and close the file."""
        self._write()
        self.database.close()

    def _write(self) -> None:
        """Write what was kept; a file that can't be written keeps nothing."""
        with suppress(sqlite3.Error), self.database:
            self.database.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?)", self.rows)
        self.rows.clear()

    def _recall(self, cases: Sequence[RawCase]) -> Iterator[Content | None]:
        keys = [self._row(case) for case in cases]
        known = self._read(keys)
        for key, case in zip(keys, cases, strict=True):
            state = self._state(case)
            recorded, text = known.get(key, (None, ""))
            content = self._content(case, text) if state is not None and recorded == state else None
            if content is None:
                self.states.append(state)
            yield content

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, tuple[bytes, str]]:
        query = f"SELECT key, state, content FROM contents WHERE key IN ({','.join('?' * len(keys))})"  # noqa: S608 (?)
        try:
            return {key: (state, text) for key, state, text in self.database.execute(query, keys)}
        except sqlite3.Error:
            return {}

    def _row(self, case: RawCase) -> bytes:
        name = os.fsencode(f"{self.root}\0{case.path}")
        return hashlib.blake2b(name, key=self.key, digest_size=16).digest()

    def _state(self, case: RawCase) -> bytes | None:
        """The state of a case's files; None if there is none, or if it may change without a trace."""
        states = []
        for file in self._files(case):
            with suppress(FileNotFoundError, NotADirectoryError):
                status = os.stat(file)
                if not stat.S_ISREG(status.st_mode) or not is_settled(status):
                    return None
                states.append(f"{file}\0{file_state(status)}-{status.st_dev}")
        return hashlib.blake2b(os.fsencode("\0".join(states)), digest_size=16).digest() if states else None

    def _files(self, case: RawCase) -> list[str]:
        path = f"{self.root}/{case.path}"
        if self.task == "classification":
            return [path]
        return [f"{path}/{stem}{suffix}" for stem in (IMAGE, LABEL) for suffix in VOLUME_SUFFIXES]

    def _content(self, case: RawCase, text: str) -> Content | None:
        with suppress(ValueError, TypeError):
            image, label, values, warnings, facts, grid, thumbnail = json.loads(text)
            problems = tuple(Problem(case.path + below, message) for below, message in warnings)
            return image, label, tuple(values), problems, self._facts(facts), _grid(grid), base64.b64decode(thumbnail)
        return None

    def _facts(self, members: list[Any] | None) -> ImageFacts | None:
        """The facts of an image; equal ones are one object."""
        if members is None:
            return None
        name = str(members)
        if name not in self.facts:
            (height, width), bits, colour, form, *pairs = members
            extremes, bulk, gap = ((low, high) for low, high in pairs)
            self.facts[name] = ImageFacts((height, width), bits, colour, extremes, bulk, gap, form)
        return self.facts[name]


def open_remembered(root: Path, task: Task, labels: Sequence[str] | None) -> RememberedChecks | None:
    """The remembered contents of a data set's cases; None if the user's cache folder can't be used."""
    folder = cache_folder(name="checks")
    if folder is None:
        return None
    with suppress(OSError, sqlite3.Error):
        path = folder / f"{code_digest(Path(formats.__file__).parent)[:32]}.sqlite"
        if not path.exists() or path.stat().st_size > MAX_BYTES:
            _begin(path)
        status = path.stat()
        if status.st_uid == os.geteuid() and not status.st_mode & 0o022:
            database = sqlite3.connect(path, timeout=_BUSY_SECONDS)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            return RememberedChecks(database, root, task, labels)
    return None


def _begin(path: Path) -> None:
    """Make a new file, and delete those that were written the longest time ago."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = sorted(path.parent.glob("*.sqlite"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    for old in {path, *files[MAX_VERSIONS - 1 :]}:
        for file in (old, old.with_name(f"{old.name}-wal"), old.with_name(f"{old.name}-shm")):
            file.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


def _secret(database: sqlite3.Connection) -> bytes:
    """The key of the file's hashes, made with it."""
    with database:
        database.execute(_SCHEMA)
        row = (b"", secrets.token_bytes(32), "")
        database.execute("INSERT OR IGNORE INTO contents VALUES (?, ?, ?)", row)
    secret: bytes = database.execute("SELECT state FROM contents WHERE key = ?", (b"",)).fetchone()[0]
    return secret


def _text(case: RawCase, content: Content) -> str:
    """A content as JSON, without names."""
    image, label, values, warnings, facts, grid, thumbnail = content
    relative = [(warning.path.removeprefix(case.path), warning.message) for warning in warnings]
    members = facts and (facts.shape, facts.bits, facts.colour, facts.form, facts.extremes, facts.bulk, facts.gap)
    position = grid and (grid.shape, grid.spacing, grid.file)
    small = base64.b64encode(thumbnail).decode()
    return json.dumps([image, label, values, relative, members, position, small], separators=(",", ":"))


def _grid(members: list[Any] | None) -> VolumeGrid | None:
    if members is None:
        return None
    (x, y, z), (width, height, depth), file = members
    return VolumeGrid((x, y, z), (width, height, depth), file)
