"""A file whose content was swapped is read again, even if size and modification time are equal; others aren't."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from medloop.file_state import file_state, is_settled
from medloop.input_data import data_version
from medloop.local.state.backend import Backend
from medloop.local.state.home import BUCKET, Home
from medloop.local.state.objects import reference
from medloop.local.state.store import Store, Table
from tests.unit.local.steps import processing

PATIENT = "Mustermann^Erika_1970"


def settle(*files: Path) -> None:
    """Wait until the times of files differ from the current time, as those of a user's data do."""
    while not all(is_settled(file.stat()) for file in files):
        time.sleep(0.01)


def rewrite(file: Path, other: Path) -> None:
    """`cp -p` onto the file, and `rsync -t --inplace`."""
    shutil.copy2(other, file)


def touch(file: Path, other: Path) -> None:
    """Edited, then `touch -r`."""
    before = file.stat()
    file.write_bytes(other.read_bytes())
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(file: Path, other: Path) -> None:
    """A backup restored under the name, or `rsync -t`."""
    shutil.copy2(other, file.with_name("new"))
    file.with_name("new").replace(file)


def relink(file: Path, other: Path) -> None:
    """The name becomes a hard link to another file."""
    file.unlink()
    os.link(other, file)


def exchange(file: Path, other: Path) -> None:
    """Two files swap their names."""
    file.rename(file.with_name("third"))
    shutil.copy2(other, file)
    file.with_name("third").unlink()


SWAPS = (rewrite, touch, replace, relink, exchange)


def chmod(file: Path) -> None:
    """The data is protected."""
    file.chmod(0o400)


def link(file: Path) -> None:
    """A backup by hard links (`cp -al`, `rsync --link-dest`)."""
    os.link(file, file.parents[1] / "backup")


def rename(file: Path) -> None:
    """Renamed away and back."""
    file.rename(file.with_name("away"))
    file.with_name("away").rename(file)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with one file; another file next to the folder has equal size and modification time."""
    folder = tmp_path / "data"
    folder.mkdir()
    file, other = folder / f"{PATIENT}.png", tmp_path / "other"
    for path, content in ((file, b"first"), (other, b"other")):
        path.write_bytes(content)
        os.utime(path, ns=(10**18, 10**18))
    settle(file, other)
    return folder


def version(local: Any, folder: Path) -> str | None:
    """The DataVersion that a run of this folder has."""
    return data_version(local.s3, reference(Home(local.home), folder))


@pytest.mark.parametrize("swap", SWAPS)
def test_swapped_file_is_another_data_version(
    local: Any, data: Path, tmp_path: Path, swap: Callable[[Path, Path], None]
) -> None:
    """Neither the listing nor a single request gives the old ETag."""
    (file,) = data.iterdir()
    before, status = version(local, data), file.stat()
    assert version(local, data) == before
    swap(file, tmp_path / "other")
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert version(local, data) != before


@pytest.mark.parametrize("change", [chmod, link, rename])
def test_other_inode_time_is_no_other_data_version(local: Any, data: Path, change: Callable[[Path], None]) -> None:
    """The file is read again, and its content decides."""
    before = version(local, data)
    change(next(data.iterdir()))
    assert version(local, data) == before


@pytest.mark.parametrize(
    ("age", "fraction", "settled"),
    [(1.0, 1, True), (0.0, 1, False), (1.0, 0, False), (4.0, 0, True), (-3600.0, 1, True)],
    ids=["old", "just written", "whole seconds", "old, whole seconds", "clock set back"],
)
def test_state_is_kept_only_if_a_change_would_show(age: float, fraction: int, settled: bool) -> None:
    """A file that is written twice within the granularity of its times may have one state."""
    ctime_ns = int((time.time() - age) * 1e9) // 10**9 * 10**9 if not fraction else int((time.time() - age) * 1e9) | 1
    status = os.stat_result([0o100644, 1, 0, 1, 0, 0, 5, 0, 0, 0], {"st_ctime_ns": ctime_ns, "st_mtime_ns": 0})
    assert is_settled(status) is settled
    assert str(ctime_ns) in file_state(status)


@pytest.mark.parametrize("swap", [rewrite, touch, replace])
@pytest.mark.slow
def test_swapped_output_is_not_taken_from_the_step_cache(
    local: Any, tmp_path: Path, swap: Callable[[Path, Path], None]
) -> None:
    """A step whose stored output was swapped runs again; one whose output has a new mode or another link doesn't."""
    code = 'import os\nopen(os.environ["ML_ROOT"] + "/processing/output/made/a", "w").write("first")\n'
    folder = f"s3://{BUCKET}/made"
    steps = [
        processing(
            "Make", local.image(code), outputs={"made": folder}, CacheConfig={"Enabled": True, "ExpireAfter": "1d"}
        )
    ]

    def is_hit() -> bool:
        _, records = local.run(steps)
        return "CacheHitResult" in records["Make"]

    assert not is_hit()
    file, other = local.home / "s3" / BUCKET / "made/a", tmp_path / "other"
    assert is_hit()
    chmod(file)
    link(file)
    assert is_hit()
    other.write_bytes(b"other")
    os.utime(other, ns=(10**18, file.stat().st_mtime_ns))
    file.chmod(0o600)
    swap(file, other)
    assert not is_hit()


def test_records_contain_no_file_name_and_are_private(local: Any, data: Path) -> None:
    """Neither the database nor its WAL; only the owner may read the home."""
    assert version(local, data)
    for file in local.home.glob("medloop.db*"):
        assert PATIENT.encode() not in file.read_bytes()
        assert b".png" not in file.read_bytes()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((local.home / "etags.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(local.home.stat().st_mode) == 0o700
    assert list((local.home / "tmp").iterdir()) == []


def test_file_names_in_a_home_of_an_earlier_version_are_removed(tmp_path: Path) -> None:
    """With the names go the cache entries that relied on modification times; other records stay."""
    home = Home(tmp_path / "home")
    backend = Backend.open(home.root)
    with backend.store.write() as write:
        write.put(Table.PIPELINES, "p", {"PipelineName": "p"})
        write.put(Table.CACHE, "c", {}, parent="p")
        for number in range(200):
            write.put(Table.ETAGS, f"/data/{PATIENT}-{number}.png", {"stamp": "1-5-2", "etag": "0"})
    with closing(sqlite3.connect(home.database)) as db:
        db.execute("PRAGMA user_version = 2")
    home.root.chmod(0o755)
    home.database.chmod(0o644)
    with Store(home.database).read() as read:
        assert (read.select(Table.PIPELINES), read.select(Table.ETAGS)) == ([{"PipelineName": "p"}], [])
        assert read.select(Table.CACHE) == []
    for file in home.root.glob("medloop.db*"):
        assert PATIENT.encode() not in file.read_bytes()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700


@pytest.mark.parametrize(("mode", "expected"), [(0o2770, 0o660), (0o755, 0o600), (0o700, 0o600), (0o777, 0o666)])
def test_a_shared_home_stays_shared(tmp_path: Path, mode: int, expected: int) -> None:
    """Those who may write the folder may use the database."""
    root = tmp_path / "home"
    root.mkdir()
    root.chmod(mode)
    with Backend.open(root).store.write() as write:
        write.put(Table.TAGS, "a", {})
    assert stat.S_IMODE((root / "medloop.db").stat().st_mode) == expected
