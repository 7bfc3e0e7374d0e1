"""Records outlive processes, belong together, and are written by several at once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from medloop.errors import TargetError
from medloop.local.state.store import SCHEMA_VERSION, Store, Table

WRITER = """
import sys
from pathlib import Path
from medloop.local.state.store import Store, Table
store = Store(Path(sys.argv[1]))
for number in range(60):
    with store.write() as write:
        count = (write.get(Table.TAGS, "count") or {"n": 0})["n"]
        write.put(Table.TAGS, "count", {"n": count + 1})
        write.put(Table.TAGS, f"{sys.argv[2]}-{number}", {})
    print(number, flush=True)
"""


def writer(path: Path, name: str) -> subprocess.Popen[str]:
    """A process that counts up in the store, and prints each number when its write has returned."""
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], stdout=subprocess.PIPE, text=True)


def test_record_keeps_place_and_parent_when_it_changes(tmp_path: Path) -> None:
    """A second put changes the document only."""
    store = Store(tmp_path / "db")
    with store.write() as write:
        write.put(Table.GROUPS, "g", {})
        for name in ("b", "a"):
            write.put(Table.PACKAGES, name, {"name": name}, parent="g")
        write.put(Table.PACKAGES, "b", {"name": "b2"})
    with Store(tmp_path / "db").read() as read:
        assert read.select(Table.PACKAGES, "g") == [{"name": "b2"}, {"name": "a"}]


def test_record_goes_with_its_parent_and_needs_one(tmp_path: Path) -> None:
    """Deleting a pipeline deletes its executions and their steps; an orphan can't be made."""
    store = Store(tmp_path / "db")
    with store.write() as write:
        write.put(Table.PIPELINES, "p", {})
        write.put(Table.EXECUTIONS, "e", {}, parent="p")
        write.put(Table.STEPS, "s", {}, parent="e")
        write.delete(Table.PIPELINES, "p")
    with store.read() as read:
        assert read.get(Table.STEPS, "s") is None
    with pytest.raises(sqlite3.IntegrityError), store.write() as write:
        write.put(Table.EXECUTIONS, "e", {}, parent="none")


def test_home_of_an_older_schema_opens(tmp_path: Path) -> None:
    """Schema 1 had fewer tables: its records stay, the new tables are there, and it is of the newest schema then."""
    tables = ("pipelines", "executions", "steps", "processing_jobs", "training_jobs")
    parents = {"executions": "pipelines", "steps": "executions"}
    with closing(sqlite3.connect(tmp_path / "db")) as db:
        for table in tables:
            owner = parents.get(table)
            parent = f"TEXT NOT NULL REFERENCES {owner} (key) ON DELETE CASCADE" if owner else "TEXT"
            db.execute(f"CREATE TABLE {table} (key TEXT PRIMARY KEY, parent {parent}, document TEXT NOT NULL) STRICT")
        db.execute("INSERT INTO pipelines VALUES ('p', NULL, '{\"PipelineName\": \"p\"}')")
        db.execute("PRAGMA user_version = 1")
        db.commit()
    with Store(tmp_path / "db").read() as read:
        assert read.select(Table.PIPELINES) == [{"PipelineName": "p"}]
        assert read.select(Table.CACHE) == []
    with Store(tmp_path / "db").write() as write:
        write.put(Table.VERSIONS, "p/1", {"PipelineVersionId": 1}, parent="p")
    with closing(sqlite3.connect(tmp_path / "db")) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """An exception in the block undoes all of it."""
    store = Store(tmp_path / "db")

    def fail() -> None:
        with store.write() as write:
            write.put(Table.TAGS, "a", {})
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with store.read() as read:
        assert read.get(Table.TAGS, "a") is None


def test_newer_database_and_no_database_are_refused_by_name(tmp_path: Path) -> None:
    """A file of a newer medloop, or one that is no database, is a user's error that names it."""
    with sqlite3.connect(tmp_path / "new") as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    (tmp_path / "text").write_text("no database, but long enough to be read as one" * 50)
    for name in ("new", "text"):
        with pytest.raises(TargetError, match=name), Store(tmp_path / name).read():
            pass


def test_database_that_is_damaged_behind_its_first_pages_is_refused_by_name(tmp_path: Path) -> None:
    """What a read meets only later is a user's error too, and names the file and the fix."""
    path = tmp_path / "db"
    with Store(path).write() as write:
        write.put(Table.TAGS, "a", {"text": "x" * 20_000})
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"A" * (len(content) - 8192))
    with pytest.raises(TargetError, match=r"db: can't be used.*restore it from a backup"), Store(path).read() as read:
        read.select(Table.TAGS)


def test_full_database_says_so(tmp_path: Path) -> None:
    """Without room the write is refused, and what was there stays readable."""
    store = Store(tmp_path / "db")
    with store.write() as write:
        write.put(Table.TAGS, "a", {"n": 1})

    def fill() -> None:
        with store.write() as write:
            write.db.execute("PRAGMA max_page_count = 1")
            write.put(Table.TAGS, "b", {"text": "x" * 200_000})

    with pytest.raises(TargetError, match=r"full.*free some space"):
        fill()
    with store.read() as read:
        assert (read.get(Table.TAGS, "a"), read.get(Table.TAGS, "b")) == ({"n": 1}, None)


def test_reading_makes_nothing(tmp_path: Path) -> None:
    """Before the first write there are no records, no file and no folder."""
    store = Store(tmp_path / "home" / "db", (tmp_path / "home").mkdir)
    with store.read() as read:
        assert read.select(Table.PIPELINES) == []
        assert read.get(Table.TAGS, "a") is None
    assert list(tmp_path.iterdir()) == []
    with store.write() as write:
        write.put(Table.TAGS, "a", {})
    with store.read() as read:
        assert read.get(Table.TAGS, "a") == {}


def test_a_fresh_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    """Another process's first look at the records comes at once while a transaction is open."""
    store = Store(tmp_path / "db")
    with store.write() as write:
        write.put(Table.TAGS, "seen", {})
    with store.write() as write:
        write.put(Table.TAGS, "unseen", {})
        with Store(tmp_path / "db").read() as read:
            assert read.get(Table.TAGS, "seen") == {}
            assert read.get(Table.TAGS, "unseen") is None


def test_a_database_kept_open_keeps_its_wal(tmp_path: Path) -> None:
    """Transactions within don't merge it into the database, which each of them would wait for; the end does."""
    store, wal = Store(tmp_path / "db"), tmp_path / "db-wal"
    with store.write() as write:
        write.put(Table.TAGS, "before", {})
    assert not wal.exists()
    with store.kept_open():
        with store.write() as write:
            write.put(Table.TAGS, "within", {})
        assert wal.stat().st_size > 0
    assert not wal.exists()
    with store.read() as read:
        assert read.get(Table.TAGS, "within") == {}


def test_times_of_executions_come_from_an_index_that_older_databases_get(tmp_path: Path) -> None:
    """No document is read: one that is no JSON has no time. Without the index, until the next write, it's the same."""
    with Store(tmp_path / "db").write() as write:
        write.put(Table.PIPELINES, "p", {})
        for number in (2, 1):
            write.put(Table.EXECUTIONS, f"e{number}", {"CreationTime": number + 0.5}, parent="p")
        write.db.execute("INSERT INTO executions VALUES ('broken', 'p', '{')")
        write.db.execute("DROP INDEX executions_created")
    expected = {"e1": 1.5, "e2": 2.5, "broken": 0.0}
    with Store(tmp_path / "db").read() as read:
        assert read.creation_times("p") == expected
    with Store(tmp_path / "db").write() as write:
        assert write.creation_times("p") == expected
        plan = write.db.execute("SELECT name FROM sqlite_master WHERE type = 'index'").fetchall()
    assert ("executions_created",) in plan


@pytest.mark.slow
def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    """Three processes that begin with no database count to the sum of their steps."""
    writers = [writer(tmp_path / "db", name) for name in "abc"]
    assert [process.wait(60) for process in writers] == [0, 0, 0]
    with Store(tmp_path / "db").read() as read:
        assert read.get(Table.TAGS, "count") == {"n": 180}
        assert len(read.select(Table.TAGS)) == 181


@pytest.mark.slow
def test_killed_writer_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """After kill -9 everything acknowledged is there, whole transactions only, and others write on."""
    process = writer(tmp_path / "db", "a")
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(20)][-1]
    process.kill()
    process.wait()
    with Store(tmp_path / "db").write() as write:
        count = (write.get(Table.TAGS, "count") or {})["n"]
        assert count > acknowledged
        assert len(write.select(Table.TAGS)) == count + 1
        assert write.get(Table.TAGS, f"a-{count - 1}") == {}
