"""Identity of a process: the process that a record names, regardless of the clock and of the reader's host.

A process id is reused, and a start time in seconds since 1970 shifts with each step of the wall clock (NTP, a suspended
laptop, a virtual machine). On Linux a record therefore has the id of the boot, the namespace of process ids, and the
start in clock ticks since boot (proc_pid_stat(5), field 22), which no step changes.

A reader of another namespace (a container that shares the home) or of another host (a home on a network disk) can't see
the process at all. Therefore each detached process locks a file below the home, and the system releases the lock
when the process ends.

Records of earlier versions have a start time only, as have those of systems without /proc; psutil reads it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import psutil

from medloop.local.state.home import Home

Identity = dict[str, Any]
RUNNER = "medloop.local.runner"
"""The module of every detached process."""
_LOCKS = "processes"
_STARTING = "starting-"
_UNSUPPORTED = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_SAME_TIME_SECONDS = 0.05


class _Stat(NamedTuple):
    state: str
    ticks: int


@dataclass(frozen=True)
class ProcessTable:
    """The processes that this process can see.

    Args:
        proc: The proc file system; a folder without it, as on macOS, leaves start times only.
    """

    proc: Path = Path("/proc")

    @property
    def view(self) -> tuple[str, str] | None:
        """The boot and the namespace in which process ids are unique; None without a proc file system."""
        try:
            boot = (self.proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            return boot, os.readlink(self.proc / "self/ns/pid")
        except OSError:
            return None

    def stat(self, pid: int) -> _Stat | None:
        """State and start of a process; None if there is none."""
        try:
            text = (self.proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = text.rpartition(")")[2].split()  # the program's name may contain spaces and parentheses
        return _Stat(fields[0], int(fields[19]))

    def identity(self, pid: int) -> Identity:
        """The record of a process: `{"pid", "started"}`, on Linux `boot`, `namespace` and `ticks` as well.

        `started` and `ticks` are 0 for a process that is gone.
        """
        record: Identity = {"pid": pid, "started": 0.0}
        with suppress(psutil.Error):
            record["started"] = psutil.Process(pid).create_time()
        if self.view is not None:
            boot, namespace = self.view
            status = self.stat(pid)
            record |= {"boot": boot, "namespace": namespace, "ticks": status.ticks if status else 0}
        return record

    def is_alive(self, process: Identity | None, home: Home) -> bool:
        """True if this very process still runs (a zombie doesn't), in this namespace or in another one.

        Args:
            process: A record of `identity`.
            home: The home whose process it is.
        """
        if not process:
            return False
        if "ticks" in process and (process["boot"], process["namespace"]) != self.view:
            return _has_lock(process, home)
        return self.is_visible(process)

    def is_visible(self, process: Identity) -> bool:
        """True if this very process runs and may be signalled by its number."""
        if "ticks" not in process:
            return _is_alive_by_time(process)
        if (process["boot"], process["namespace"]) != self.view:
            return False
        status = self.stat(process["pid"])
        return status is not None and status.ticks == process["ticks"] and status.state not in "ZX"


TABLE = ProcessTable()


def make_deadline(seconds: float) -> dict[str, Any]:
    """A record of the time that many seconds from now: by the wall clock, and by the boot's clock where there is one.

    The boot's clock isn't set, and it runs while a laptop is suspended.
    """
    record: dict[str, Any] = {"expires": time.time() + seconds}
    if TABLE.view is not None:
        record |= {"boot": TABLE.view[0], "uptime": time.clock_gettime(time.CLOCK_BOOTTIME) + seconds}
    return record


def is_past(deadline: dict[str, Any]) -> bool:
    """True if the time of a record of `make_deadline` is over; after a reboot the wall clock decides."""
    if TABLE.view is not None and deadline.get("boot") == TABLE.view[0]:
        return bool(time.clock_gettime(time.CLOCK_BOOTTIME) > deadline["uptime"])
    return bool(time.time() > deadline["expires"])


def is_own(process: Identity) -> bool:
    """True if a record is that of this process."""
    return bool(process["pid"] == os.getpid()) and TABLE.is_visible(process)


def open_lock(home: Home) -> IO[bytes]:
    """Lock a new file of a process that is about to be started; the process inherits the lock with the file."""
    folder = home.folder(_LOCKS)
    _remove_released(folder)
    file = (folder / f"{_STARTING}{os.getpid()}-{time.monotonic_ns()}").open("xb")
    with suppress(OSError):  # a file system without locks
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def name_lock(file: IO[bytes], process: Identity, home: Home) -> None:
    """Name a lock after the process that inherited it."""
    if "ticks" in process:
        os.replace(file.name, _lock_path(process, home))
    else:
        os.unlink(file.name)


def _lock_path(process: Identity, home: Home) -> Path:
    namespace = "".join(sign for sign in process["namespace"] if sign.isdigit())
    return home.root / _LOCKS / f"{process['boot']}-{namespace}-{process['pid']}-{process['ticks']}"


def _has_lock(process: Identity, home: Home) -> bool:
    try:
        with _lock_path(process, home).open("rb") as file:
            return _is_locked(file)
    except OSError:
        return False


def _is_locked(file: IO[bytes]) -> bool:
    """True if a process has locked the file, or the file system can't tell."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return True
    return False


def _remove_released(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name.startswith(_STARTING):  # may not be locked yet
            continue
        with suppress(OSError), path.open("rb") as file:
            if not _is_locked(file):
                path.unlink()


def _is_alive_by_time(process: Identity) -> bool:
    """True if a process with this number and start time runs.

    The wall clock may have been set since. A runner of this project with the same number is taken for the recorded
    one: if that is wrong, the record is ended when the runner ends.
    """
    try:
        running = psutil.Process(process["pid"])
        same = abs(running.create_time() - process["started"]) < _SAME_TIME_SECONDS or RUNNER in running.cmdline()
        return same and running.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # another user's
        return False
