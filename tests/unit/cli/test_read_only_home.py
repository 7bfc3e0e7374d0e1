"""A home that can't be written, a full disk, a damaged or deleted database: no traceback, and no false statement."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from medloop.cli import main
from medloop.commands.options import Services
from medloop.local.state.backend import Backend
from medloop.local.state.store import Table
from tests.unit.cli.account import ARN, Account
from tests.unit.cli.executions import definition

DEAD = {"pid": 2**22 + 1, "started": 0.0}
OVERRIDES = 0b110
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, with which root ignores permissions."""


def drop_overrides() -> None:
    """Let the permissions of files apply to this thread, as to every user but root (capset(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    for index in range(3):
        sets[index] &= ~OVERRIDES
    assert libc.capset(header, sets) == 0


@pytest.fixture
def home(account: Account, finished: str) -> Path:
    """A home with a finished execution and its version, and an execution whose engine died."""
    running = account.add_execution("run123run123", "Executing", _engine=DEAD)
    account.add_step(running, "Train", "Executing", {"TrainingJob": {"Arn": f"{ARN}:training-job/t-1"}})
    account.definitions[finished] = definition()
    account.boto.client("sagemaker").list_pipelines()
    return account.home


@pytest.fixture
def read_only(home: Path) -> Iterator[Path]:
    """The home, without permission to write for anyone."""
    files = [home, *home.rglob("*")]
    modes = {path: path.stat().st_mode for path in files}
    for path in files:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield home
    for path, mode in modes.items():
        path.chmod(mode)


def run(home: Path, command: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run a command with its real services: exit code, stdout, stderr."""
    argv = [*command.split(), "--target", "local", "--home", str(home)]
    with ThreadPoolExecutor(1, initializer=drop_overrides) as pool:
        code = pool.submit(main, argv, Services()).result()
    return (code, *capsys.readouterr())


READS = {
    "executions list": "abc123abc123",
    "executions show abc123abc123": "Evaluate",
    "executions show run123run123": "Train",
    "executions logs abc123abc123 Train": "epoch=2; val_auroc=0.7;",
    "executions open abc123abc123 --no-browser": ".html",
    "models list": "g/1",
    "models show g/1": "model-package/g/1",
    "models open g/1 --no-browser": ".html",
    "endpoints list": "",
    "schedules list": "",
}


@pytest.mark.parametrize("command", READS)
def test_a_home_that_cannot_be_written_can_be_read(
    read_only: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is changed."""
    before = {path: path.stat().st_mtime_ns for path in read_only.rglob("*")}
    code, out, err = run(read_only, command, capsys)
    assert code == 0, err
    assert READS[command] in out
    for line in out.splitlines():
        assert not (line.startswith("/") and line.endswith(".html")) or Path(line).is_file()
    assert before == {path: path.stat().st_mtime_ns for path in read_only.rglob("*")}


def test_writing_to_it_is_refused_in_one_line(read_only: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names what can't be written."""
    code, _, err = run(read_only, "models reject g/1 --reason bad --as someone --yes", capsys)
    assert (code, err.count("\n")) == (2, 1), err
    assert str(read_only) in err


def test_a_home_of_another_user_is_refused_in_one_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It can't even be read."""
    home.chmod(0)
    code, _, err = run(home, "models list", capsys)
    home.chmod(0o700)
    assert (code, err.count("\n")) == (2, 1), err
    assert "can't be read" in err


@pytest.mark.parametrize("damage", ["deleted", "empty", "deleted with its WAL"])
@pytest.mark.parametrize("command", ["models list", "executions list", "models show g/1"])
def test_a_deleted_database_is_not_taken_for_an_empty_one(
    home: Path, damage: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The models and logs are still there: the message says what is missing, and what to do."""
    for path in home.glob("medloop.db*" if "WAL" in damage else "medloop.db"):
        path.unlink()
    if damage == "empty":
        (home / "medloop.db").touch()
    code, out, err = run(home, command, capsys)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert "medloop.db: is missing or empty" in err
    assert "from a backup" in err
    assert "yet" not in err
    if damage != "empty":
        assert not (home / "medloop.db").exists()


@pytest.mark.parametrize("text", ["no json", "", "[]", "5", '{"a": ', "null", "\x00\ud7ff"])
@pytest.mark.parametrize("command", ["models list", "models show g/1"])
def test_a_record_that_is_no_json_object_is_named(
    home: Path, text: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its table and its key."""
    with Backend.open(home).store.write() as write:
        write.db.execute(f"UPDATE {Table.PACKAGES} SET document = ?", (text,))  # noqa: S608 (Table)
    code, _, err = run(home, command, capsys)
    assert (code, err.count("\n")) == (2, 1), err
    assert "model-package/g/1 of table packages is no JSON" in err


@pytest.mark.parametrize("cut", [100, 4096, 5000])
def test_a_database_that_was_cut_is_named(home: Path, cut: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Half a copy, or a disk that was full."""
    content = (home / "medloop.db").read_bytes()
    for path in home.glob("medloop.db-*"):
        path.unlink()
    (home / "medloop.db").write_bytes(content[:cut])
    code, _, err = run(home, "models list", capsys)
    assert (code, err.count("\n")) == (2, 1), err
    assert "medloop.db: can't be used" in err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EIO])
def test_an_error_of_the_disk_is_one_line(medloop: Any, tmp_path: Path, number: int) -> None:
    """It names the file and the fix, whichever write failed."""

    def upsert(*_: Any) -> Any:
        raise OSError(number, os.strerror(number), str(tmp_path / "home/tmp/bundle"))

    services = Services(upsert=upsert, build=lambda *_: medloop.built, open_target=medloop._open)
    assert main(["pipelines", "upsert", "classification"], services) == 2
    err = medloop.capsys.readouterr().err.splitlines()[-1]
    assert err.startswith("error: ")
    assert "home/tmp/bundle: can't be used" in err
    assert os.strerror(number) in err
