"""Processes: how every one of them is started, known by more than its number (`process_identity`), and ended.

A job's processes share a session (and so a process group) and carry the job's own ML_ROOT in their environment, which
finds those that left it.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

import psutil

from medloop.checkout import checkout_folder
from medloop.local.process_identity import RUNNER, TABLE, Identity, name_lock, open_lock
from medloop.local.state.home import HOME_VARIABLE, Home
from medloop.local.state.runtime import RUNTIME_VARIABLE

_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
_POLL_SECONDS = 0.02
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class Process(Protocol):
    """A process that this one started, in a session of its own, and what it prints."""

    pid: int
    stdout: IO[str] | None
    returncode: int | None

    def poll(self) -> int | None:
        """The return code once it has ended, as subprocess defines it; its number may be another's then."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""

    def has_ended(self, seconds: float = 0.0) -> bool:
        """True if it has ended, now or within this time; it isn't reaped, so that its group's number stays taken."""

    def signal_group(self, number: int) -> None:
        """Send a signal to its process group."""


class StartedProcess(subprocess.Popen[str]):
    """A child of this process."""

    def has_ended(self, seconds: float = 0.0) -> bool:
        """True if it has ended, now or within this time; it isn't reaped."""
        if seconds:
            _await_end(self.pid, seconds)
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def signal_group(self, number: int) -> None:
        """Send a signal to its group, which must not be reaped yet."""
        signal_own_group(self.pid, number)


def identity(pid: int) -> Identity:
    """The record of a process; see `process_identity`."""
    return TABLE.identity(pid)


def own_identity() -> Identity:
    """The record of this process."""
    return identity(os.getpid())


def alive(process: Identity | None, home: Home) -> bool:
    """True if this very process of a home still runs (a zombie doesn't)."""
    return TABLE.is_alive(process, home)


def signal_group(leader: Identity | None, number: int) -> None:
    """Send a signal to the process group that a living leader heads."""
    if leader and TABLE.is_visible(leader):
        signal_own_group(leader["pid"], number)


def signal_own_group(pid: int, number: int) -> None:
    """Send a signal to the group of a child of ours that isn't reaped yet, so that the number can't be another's."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def kill_strays(ml_root: Path) -> None:
    """Kill every process that a job left behind, wherever it went."""
    for pid in psutil.pids():
        if pid != os.getpid() and _has_root(pid, ml_root):
            with suppress(psutil.Error, OSError):
                process = psutil.Process(pid)
                if _has_root(pid, ml_root):  # not a later process of the same number
                    process.send_signal(signal.SIGKILL)


def _has_root(pid: int, ml_root: Path) -> bool:
    """True if a process has this ML_ROOT in its environment."""
    with suppress(psutil.Error, OSError):
        if not psutil.LINUX:
            return psutil.Process(pid).environ().get("ML_ROOT") == str(ml_root)
        # Every process of the host, twice a job: psutil would take three times as long, pathlib's objects as well.
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            entry, text = os.fsencode(f"ML_ROOT={ml_root}"), file.read()
        return entry in text and entry in text.split(b"\0")
    return False


def _await_end(pid: int, seconds: float) -> None:
    """Wait until a child has ended, but no longer; a moment only where the system can't report it."""
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux, or forbidden in this container
        time.sleep(min(seconds, _POLL_SECONDS))
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(seconds * 1000)
    finally:
        os.close(descriptor)


def inherited_environment(*more: str) -> dict[str, str]:
    """Variables of this process that a user's program may have; nothing else, above all no credentials.

    Args:
        more: Names in addition to those that every program gets.
    """
    return {name: os.environ[name] for name in (*_INHERITED, *more) if name in os.environ}


def start(
    argv: list[str],
    *,
    cwd: Path,
    env: dict[str, str],
    output: int | IO[bytes] = subprocess.PIPE,
    with_parent: bool = False,
    inherited: tuple[int, ...] = (),
) -> StartedProcess:
    """Start a process in a session of its own, without input: Ctrl-C in the terminal doesn't reach it.

    Args:
        argv: The program and its arguments.
        cwd: Its working folder.
        env: Its whole environment.
        output: Where what it prints goes, errors as well: a pipe of text by default.
        with_parent: Whether the system kills it when the thread that started it ends, even by SIGKILL.
        inherited: File descriptors that it keeps open.

    Raises:
        OSError: The program can't be started.
    """
    return StartedProcess(  # (the program of a job, a container or a function, or this project's own)
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        preexec_fn=_die_with_parent if with_parent else None,
        pass_fds=inherited,
    )


def start_detached(home: Home, resource: str, runtime: str) -> Identity:
    """Start `python -m medloop.local.runner <resource>`, which outlives this process.

    The runtime is that of the resource's record: a resource that is started again keeps it.

    What it prints (errors, notes of the step cache) goes to `<home>/engines/<last part of the resource>.log`.
    """
    path = os.pathsep.join(filter(None, [checkout_folder(), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, HOME_VARIABLE: str(home.root), RUNTIME_VARIABLE: runtime, "PYTHONPATH": path}
    log = home.folder("engines") / f"{resource.rpartition('/')[2]}.log"
    with log.open("ab") as output, open_lock(home) as lock:
        argv = [sys.executable, "-m", RUNNER, resource]
        process = start(argv, cwd=home.root, env=env, output=output, inherited=(lock.fileno(),))
        started = identity(process.pid)
        name_lock(lock, started, home)
    # Detached on purpose: without this, Popen's destructor warns that the child still runs.
    process.returncode = 0
    return started


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
