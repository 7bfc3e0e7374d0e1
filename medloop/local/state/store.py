"""The records of the local backend: JSON documents in SQLite tables.

Several processes (commands, engines, job runners) use one file at once. Every change is one transaction, in WAL mode
with full synchronisation: an acknowledged change is on disk, and a killed process leaves nothing of an unfinished one.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from medloop.errors import TargetError

SCHEMA_VERSION = 2
_BUSY_SECONDS = 30.0
_MOVE_AWAY = "move it away, or set MEDLOOP_HOME to another folder"
_FIXES = {
    "SQLITE_BUSY": "another process has locked it; try again when that process has ended",
    "SQLITE_FULL": "free some space, or set MEDLOOP_HOME to a folder on another disk",
    "SQLITE_IOERR": "the disk may be full; free some space, or set MEDLOOP_HOME to a folder on another disk",
    "SQLITE_READONLY": "make it writable, or set MEDLOOP_HOME to another folder",
    "SQLITE_CANTOPEN": "set MEDLOOP_HOME to another folder",
}
"""The fix, by the beginning of SQLite's name for the error."""

Document = dict[str, Any]


def pick(document: Document, *names: str) -> Document:
    """The named fields of a document, those that it has."""
    return {name: document[name] for name in names if name in document}


class Table(StrEnum):
    """The tables; `_PARENTS` names the table of the records that a table's records belong to, and are deleted with."""

    PIPELINES = "pipelines"
    EXECUTIONS = "executions"
    STEPS = "steps"
    PROCESSING_JOBS = "processing_jobs"
    TRAINING_JOBS = "training_jobs"
    TUNING_JOBS = "tuning_jobs"
    TRANSFORM_JOBS = "transform_jobs"
    FUNCTIONS = "functions"
    MODELS = "models"
    ENDPOINT_CONFIGS = "endpoint_configs"
    ENDPOINTS = "endpoints"
    SCHEDULES = "schedules"
    CACHE = "step_cache"
    VERSIONS = "pipeline_versions"
    GROUPS = "package_groups"
    PACKAGES = "packages"
    TAGS = "tags"
    TOKENS = "tokens"
    ETAGS = "etags"


_PARENTS = {
    Table.EXECUTIONS: Table.PIPELINES,
    Table.STEPS: Table.EXECUTIONS,
    Table.TOKENS: Table.EXECUTIONS,
    Table.PACKAGES: Table.GROUPS,
    Table.VERSIONS: Table.PIPELINES,
    Table.CACHE: Table.PIPELINES,
}


def _schema() -> Iterator[str]:
    for table in Table:
        owner = _PARENTS.get(table)
        parent = f"parent TEXT NOT NULL REFERENCES {owner} (key) ON DELETE CASCADE" if owner else "parent TEXT"
        yield f"CREATE TABLE IF NOT EXISTS {table} (key TEXT PRIMARY KEY, {parent}, document TEXT NOT NULL) STRICT"
        yield f"CREATE INDEX IF NOT EXISTS {table}_parent ON {table} (parent)"


@dataclass(frozen=True)
class Transaction:
    """All reads and writes of one transaction; table names come from `Table` only, values are bound."""

    db: sqlite3.Connection

    def get(self, table: Table, key: str) -> Document | None:
        """The document under this key, or None."""
        row = self.db.execute(f"SELECT document FROM {table} WHERE key = ?", (key,)).fetchone()  # noqa: S608 (Table)
        return json.loads(row[0]) if row else None

    def require(self, table: Table, key: str, absent: Exception) -> Document:
        """The document under this key; raises `absent` where there is none."""
        document = self.get(table, key)
        if document is None:
            raise absent
        return document

    def select(self, table: Table, parent: str | None = None) -> list[Document]:
        """All documents, or those of one parent, in the order they were first put."""
        condition, values = ("WHERE parent = ?", (parent,)) if parent is not None else ("", ())
        rows = self.db.execute(f"SELECT document FROM {table} {condition} ORDER BY rowid", values)  # noqa: S608 (Table)
        return [json.loads(row[0]) for row in rows]

    def put(self, table: Table, key: str, document: Document, parent: str | None = None) -> None:
        """Write a document; a record that exists keeps its parent and its position in the order."""
        text = json.dumps(document, ensure_ascii=False)
        done = self.db.execute(f"UPDATE {table} SET document = ? WHERE key = ?", (text, key))  # noqa: S608 (Table)
        if done.rowcount == 0:
            insert = f"INSERT INTO {table} (key, parent, document) VALUES (?, ?, ?)"  # noqa: S608 (Table)
            self.db.execute(insert, (key, parent, text))

    def delete(self, table: Table, key: str) -> None:
        """Delete a record, and all records that belong to it."""
        self.db.execute(f"DELETE FROM {table} WHERE key = ?", (key,))  # noqa: S608 (Table)


class Store:
    """Opens transactions on the database file, which is made when something is first written.

    Args:
        path: The SQLite file.
        make_folder: Makes the file's folder; by default it exists.
    """

    def __init__(self, path: Path, make_folder: Callable[[], object] = lambda: None) -> None:
        self.path = path
        self.make_folder = make_folder
        self._prepared = False

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A consistent view of all records; makes nothing where nothing was ever written."""
        if not self.path.exists():
            with closing(sqlite3.connect(":memory:")) as empty:
                for statement in _schema():
                    empty.execute(statement)
                yield Transaction(empty)
            return
        with self._transaction("BEGIN") as transaction:
            yield transaction

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """The one writer's transaction: committed at the end of the block, rolled back by an exception."""
        if not self._prepared:
            self.make_folder()
        with self._transaction("BEGIN IMMEDIATE") as transaction:
            yield transaction

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Transaction]:
        if not self._prepared:
            self._prepare()
        with self._translate_errors(), closing(self._connect()) as db:
            try:
                db.execute(begin)
                yield Transaction(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA synchronous = FULL")
        except BaseException:
            db.close()
            raise
        return db

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raise SQLite's errors of the file or its disk as a TargetError with the fix; a bug stays unchanged."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
                raise
            fix = next((text for name, text in _FIXES.items() if error.sqlite_errorname.startswith(name)), _MOVE_AWAY)
            raise TargetError(f"{self.path}: can't be used as medloop's database ({error}); {fix}") from error

    def _prepare(self) -> None:
        with self._translate_errors(), closing(self._connect()) as db:
            _enter_wal(db)
            if _version(db) == SCHEMA_VERSION:  # a reader need not wait for a writer
                self._prepared = True
                return
            db.execute("BEGIN IMMEDIATE")
            version = _version(db)
            if version > SCHEMA_VERSION:
                raise TargetError(f"{self.path}: made by a newer medloop (schema {version}); update medloop")
            if version < SCHEMA_VERSION:  # so far a newer schema has more tables, and no other ones
                for statement in _schema():
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            db.execute("COMMIT")
            self._prepared = True


def _version(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def _enter_wal(db: sqlite3.Connection) -> None:
    """Switch to WAL; two processes that switch at once get "locked" without SQLite's own wait."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
