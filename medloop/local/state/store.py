"""The records of the local backend: JSON documents in SQLite tables.

Several processes (commands, engines, job runners) use one file at once. Every change is one transaction, in WAL mode
with full synchronisation: an acknowledged change is on disk, and a killed process leaves nothing of an unfinished one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from medloop.errors import TargetError
from medloop.local.state.database import (
    connect,
    connect_read_only,
    copied,
    enter_wal,
    has_tables,
    is_writable,
    make_private,
    make_private_file,
    read_version,
    translate_errors,
    wipe_deleted,
)

SCHEMA_VERSION = 3
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


_CREATED = "CASE WHEN json_valid(document) THEN json_extract(document, '$.CreationTime') END"
_INDEX = f"CREATE INDEX IF NOT EXISTS executions_created ON {Table.EXECUTIONS} (parent, {_CREATED}, key)"
"""Lists executions without reading them: each contains its pipeline's definition. Databases get it when written."""


def _schema() -> Iterator[str]:
    for table in Table:
        owner = _PARENTS.get(table)
        parent = f"parent TEXT NOT NULL REFERENCES {owner} (key) ON DELETE CASCADE" if owner else "parent TEXT"
        yield f"CREATE TABLE IF NOT EXISTS {table} (key TEXT PRIMARY KEY, {parent}, document TEXT NOT NULL) STRICT"
        yield f"CREATE INDEX IF NOT EXISTS {table}_parent ON {table} (parent)"
    yield _INDEX


@dataclass(frozen=True)
class Transaction:
    """All reads and writes of one transaction; table names come from `Table` only, values are bound."""

    db: sqlite3.Connection
    path: Path
    """The database's file, which errors name."""

    def get(self, table: Table, key: str) -> Document | None:
        """The document under this key, or None."""
        row = self.db.execute(f"SELECT document FROM {table} WHERE key = ?", (key,)).fetchone()  # noqa: S608 (Table)
        return _parse(table, key, row[0], self.path) if row else None

    def get_many(self, table: Table, keys: Sequence[str]) -> dict[str, Document]:
        """The documents under these keys, those that exist."""
        where = "WHERE key IN (SELECT value FROM json_each(?))"
        rows = self.db.execute(f"SELECT key, document FROM {table} {where}", (json.dumps(keys),))  # noqa: S608 (Table)
        return {key: _parse(table, key, text, self.path) for key, text in rows}

    def require(self, table: Table, key: str, absent: Exception) -> Document:
        """The document under this key; raises `absent` where there is none."""
        document = self.get(table, key)
        if document is None:
            raise absent
        return document

    def select(self, table: Table, parent: str | None = None) -> list[Document]:
        """All documents, or those of one parent, in the order they were first put."""
        condition, values = ("WHERE parent = ?", (parent,)) if parent is not None else ("", ())
        query = f"SELECT key, document FROM {table} {condition} ORDER BY rowid"  # noqa: S608 (Table)
        return [_parse(table, key, text, self.path) for key, text in self.db.execute(query, values)]

    def creation_times(self, pipeline: str) -> dict[str, float]:
        """CreationTime of each execution of a pipeline, by ARN; 0 of a record that has none or can't be read."""
        # The order makes SQLite take the values from the index; without it, it reads the documents.
        query = f"SELECT key, {_CREATED} FROM {Table.EXECUTIONS} WHERE parent = ? ORDER BY {_CREATED}"  # noqa: S608
        return {key: created or 0.0 for key, created in self.db.execute(query, (pipeline,))}

    def put(self, table: Table, key: str, document: Document, parent: str | None = None) -> None:
        """Write a document; a record that exists keeps its parent and its position in the order."""
        text = json.dumps(document)  # in ASCII: SQLite stores no surrogates, which names that are no UTF-8 have
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
        num_leftovers: Counts files of the folder that exist only after records were made. A database that is missing
            then was deleted, and is no empty one.
    """

    def __init__(
        self, path: Path, make_folder: Callable[[], object] = lambda: None, num_leftovers: Callable[[], int] = lambda: 0
    ) -> None:
        self.path = path
        self.make_folder = make_folder
        self.num_leftovers = num_leftovers
        self._prepared = False
        self._indexed = False

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A consistent view of all records; makes nothing where nothing was ever written, or may be written.

        Raises:
            TargetError: The database can't be read, or was deleted.
        """
        if not self.path.exists():
            self._check_not_deleted()
            with closing(sqlite3.connect(":memory:")) as empty:
                for statement in _schema():
                    empty.execute(statement)
                yield Transaction(empty, self.path)
            return
        with self._transaction("BEGIN") if is_writable(self.path) else self._read_only() as transaction:
            yield transaction

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """The one writer's transaction: committed at the end of the block, rolled back by an exception.

        Raises:
            TargetError: The database can't be written, or was deleted.
        """
        self.create()
        with self._transaction("BEGIN IMMEDIATE") as transaction:
            if not self._indexed:
                transaction.db.execute(_INDEX)
            yield transaction
        self._indexed = True

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Keep the database open, for a process with many transactions.

        Each opens it and closes it, and the last one to close it merges its WAL into it and deletes the WAL, with
        three more waits for the disk.

        Raises:
            TargetError: The database can't be written, or was deleted.
        """
        self.create()
        with translate_errors(self.path), closing(connect(self.path)) as db:
            read_version(db)  # opened by its first use
            yield

    def create(self) -> None:
        """Make the database, unless it exists."""
        if self._prepared:
            return
        self.make_folder()
        if not self.path.exists():
            self._check_not_deleted()
            make_private_file(self.path)
        self._prepare()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Transaction]:
        if not self._prepared:
            self._prepare()
        with translate_errors(self.path), closing(connect(self.path)) as db:
            try:
                db.execute(begin)
                yield Transaction(db, self.path)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def _read_only(self) -> Iterator[Transaction]:
        """A view of a database that can't be written, such as one on a read-only disk."""
        with translate_errors(self.path), ExitStack() as stack:
            db = connect_read_only(self.path)
            if db is None or read_version(db) < SCHEMA_VERSION:
                copy = stack.enter_context(copied(self.path))
                yield stack.enter_context(Store(copy).read())
                return
            stack.enter_context(closing(db))
            self._check_version(read_version(db))
            db.execute("BEGIN")
            yield Transaction(db, self.path)

    def _prepare(self) -> None:
        with translate_errors(self.path), closing(connect(self.path)) as db:
            version = read_version(db)
            if version == 0 and not has_tables(db):
                self._check_not_deleted()
            enter_wal(db)
            self._check_version(version)
            if version < SCHEMA_VERSION:  # else a reader need not wait for a writer
                self._migrate(db)
            self._prepared = True

    def _migrate(self, db: sqlite3.Connection) -> None:
        """Bring a database to this schema: the tables that it lacks, without the caches of earlier versions.

        Those caches contained file names, and recognised a file by size and modification time only.
        """
        db.execute("BEGIN IMMEDIATE")
        version = read_version(db)
        self._check_version(version)
        if version < SCHEMA_VERSION:
            for statement in _schema():
                db.execute(statement)
            for table in (Table.ETAGS, Table.CACHE):
                db.execute(f"DELETE FROM {table}")  # noqa: S608 (Table)
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")
        if 0 < version < SCHEMA_VERSION:
            wipe_deleted(db)
            make_private(self.path)

    def _check_version(self, version: int) -> None:
        if version > SCHEMA_VERSION:
            raise TargetError(f"{self.path}: made by a newer medloop (schema {version}); update medloop")

    def _check_not_deleted(self) -> None:
        if count := self.num_leftovers():
            folder, name = self.path.parent, self.path.name
            raise TargetError(
                f"{self.path}: is missing or empty, but {folder} contains {count} files of recorded executions and "
                f"models; restore {name} and, if there is one, {name}-wal from a backup. Without a backup, copy what "
                f"you need from {folder}/s3 and set MEDLOOP_HOME to another folder, which starts without records"
            )


def _parse(table: Table, key: str, text: str, path: Path) -> Document:
    try:
        document = json.loads(text)
    except ValueError as error:
        document = error
    if not isinstance(document, dict):
        reason = f"no JSON ({document})" if isinstance(document, ValueError) else "no JSON object"
        raise TargetError(f"{path}: the record {key} of table {table} is {reason}; restore {path.name} from a backup")
    return document
