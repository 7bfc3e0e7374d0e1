"""The servers that warm jobs are forked from: each is started once, and the least recently used ones end.

A server listens on a socket in its folder `<home>/warm/<key>`, and ends by itself when the socket is gone: so a home
can be deleted, and a server is ended without a signal to a number that may be another process's by now.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from medloop.container.memory import available_memory
from medloop.local import processes
from medloop.local.processes import StartedProcess

SERVER = Path(__file__).with_name("warm_server.py")
RESPONSE_SECONDS = 10.0
POLL_SECONDS = 0.02
_START_SECONDS = 120.0
_UNFIT_SECONDS = 3600.0
_KEEP_SECONDS = 86_400.0
"""After which the folder of a server that has ended is deleted."""
_ROOM_BYTES = (4_000, 64_000)
"""Of a job's arguments, and of its environment."""
_QUIET = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""Variables of a server: pyarrow's allocator would start a thread on import, which only returns memory earlier."""
_started: list[StartedProcess] = []
_started_lock = threading.Lock()


class ColdError(Exception):
    """The program can't start warm, with the reason."""


@dataclass(frozen=True)
class ServerLimits:
    """The number of servers, and the memory that must be available for a new one.

    Args:
        per_home: Servers of a home.
        per_user: Servers of this user, of all homes.
        min_memory: In bytes. A server with torch and MONAI takes 0.6 GB of its own, and its jobs take theirs.
        reserve: In bytes; an idle server ends when less is available, because others need its memory.
    """

    per_home: int = 3
    per_user: int = 6
    min_memory: int = 2 << 30
    reserve: int = 1 << 30

    def require_memory(self) -> None:
        """Raise ColdError if too little memory is available for a server."""
        memory = available_memory()
        if memory is not None and memory < self.min_memory:
            needed = f"{self.min_memory / 1e9:.1f} GB"
            raise ColdError(f"{max(0, memory) / 1e9:.1f} GB of memory are available, and a server needs {needed}")


LIMITS = ServerLimits()


@dataclass(frozen=True)
class Plan:
    """The server that a program needs.

    Args:
        folder: The server's folder.
        env: Its environment.
        config: The content of its config.json.
    """

    folder: Path
    env: dict[str, str]
    config: dict[str, Any]


def make_folder(folder: Path) -> None:
    """Make a server's folder, private to the user."""
    for path in (folder.parent, folder):
        path.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def locked(folder: Path, is_cancelled: Callable[[], bool]) -> Iterator[None]:
    """Hold the lock of a server's folder, so that only one client starts it; its time is that of the last use."""
    with (folder / "lock").open("ab") as file:
        for _ in _patience(is_cancelled):
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
        os.utime(file.fileno())
        yield


def _patience(is_cancelled: Callable[[], bool]) -> Iterator[None]:
    """Poll until the caller has what it waits for. Raises ColdError after too long."""
    deadline = time.monotonic() + _START_SECONDS
    while not is_cancelled():
        if time.monotonic() > deadline:
            raise ColdError(f"its server didn't start within {_START_SECONDS:.0f} s")
        yield
        time.sleep(POLL_SECONDS)
    raise ColdError("the job is to stop")


def connect(folder: Path) -> socket.socket | None:
    """Connect to the server of a folder; None if none listens."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(RESPONSE_SECONDS)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:  # by the folder's descriptor: a socket's path has 107 bytes at most
        connection.connect(f"/proc/self/fd/{directory}/socket")
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    finally:
        os.close(directory)
    return connection


def start_server(plan: Plan, limits: ServerLimits, is_cancelled: Callable[[], bool]) -> None:
    """Start a server, and wait until it listens; then end those that exceed the limits.

    Raises:
        ColdError: It ended, takes too long, or there is too little memory for it.
    """
    unfit = plan.folder / "unfit"
    if unfit.exists() and time.time() - unfit.stat().st_mtime < _UNFIT_SECONDS:
        raise ColdError(unfit.read_text(encoding="utf-8"))
    limits.require_memory()
    unfit.unlink(missing_ok=True)
    server = _start_process(plan)
    for _ in _patience(is_cancelled):
        if (connection := connect(plan.folder)) is not None:
            connection.close()
            break
        if server.has_ended():
            last = (read_text(plan.folder / "log").splitlines() or [""])[-1]
            raise ColdError(read_text(unfit) or f"its server ended with code {server.poll()}: {last}")
    for folder in surplus(_served_folders(), plan.folder.parent, limits):
        _unless_used(folder, (folder / "socket").unlink)
    _delete_old_folders(plan.folder.parent)


def _start_process(plan: Plan) -> StartedProcess:
    for name in ("site", "tmp"):
        (plan.folder / name).mkdir(exist_ok=True)
    (plan.folder / "site" / "sitecustomize.py").write_text("", encoding="utf-8")
    (plan.folder / "config.json").write_text(json.dumps(plan.config), encoding="utf-8")
    paths = [str(plan.folder / "site"), *plan.config["paths"]]
    arguments, environment = _ROOM_BYTES
    env = {"MEDLOOP_WARM_ROOM": "-" * environment, **plan.env, **_QUIET}
    env |= {"TMPDIR": str(plan.folder / "tmp"), "PYTHONPATH": os.pathsep.join(paths)}
    with (plan.folder / "log").open("wb") as output:
        argv = [sys.executable, str(SERVER), str(plan.folder), "-" * arguments]
        server = processes.start(argv, cwd=Path("/"), env=env, output=output)
    with _started_lock:  # those that have ended are reaped
        _started[:] = [*(process for process in _started if process.poll() is None), server]
    return server


def surplus(folders: Iterable[Path], home: Path, limits: ServerLimits) -> list[Path]:
    """The folders of the least recently used servers that exceed the limits of this home, or of this user.

    Args:
        folders: Those of all servers.
        home: The folder of the servers of this home.
        limits: The limits.
    """
    num_home, exceeding = 0, []
    for num_user, folder in enumerate(sorted(folders, key=_last_use, reverse=True), 1):
        num_home += folder.parent == home
        if num_user > limits.per_user or (folder.parent == home and num_home > limits.per_home):
            exceeding.append(folder)
    return exceeding


def _served_folders() -> set[Path]:
    """The folders of this user's servers that listen, those of other homes too."""
    folders = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            arguments = process.cmdline()[1:3]
            if len(arguments) == 2 and Path(arguments[0]).name == SERVER.name and process.uids().real == os.getuid():
                folders.add(Path(arguments[1]))
    return {folder for folder in folders if (folder / "socket").exists()}


def _last_use(folder: Path) -> float:
    with suppress(OSError):
        return (folder / "lock").stat().st_mtime
    return 0.0


def _unless_used(folder: Path, action: Callable[[], object]) -> None:
    """Do it while holding the lock of a server's folder; nothing is done while a client has it, or if it is gone."""
    with suppress(OSError), (folder / "lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        action()


def _delete_old_folders(home: Path) -> None:
    """Delete the folders of servers that ended long ago; each environment has a folder of its own."""
    for folder in home.iterdir():
        if time.time() - _last_use(folder) > _KEEP_SECONDS:
            _unless_used(folder, partial(_delete_unless_served, folder))


def _delete_unless_served(folder: Path) -> None:
    if (connection := connect(folder)) is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        connection.close()


def read_text(path: str | Path) -> str:
    """The content of a file; empty if it can't be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
