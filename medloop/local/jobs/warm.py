"""Starts the program of a job or a container: warm (forked from a process with its packages), new, or in an image.

A container's `container.toml` lists what it preloads. The first program of a kind starts its server
(`warm_server.py`), which imports that and forks all later ones, until it had nothing to do for MEDLOOP_WARM_MINUTES.
Programs share a server only if a new process would be the same for them up to its program: the interpreter, the
environment apart from a job's own variables, the user, the limits and all else that a process inherits. A program that
can't start warm starts cold; if a server was to be expected, its log has one line about it.
"""

from __future__ import annotations

import array
import hashlib
import json
import math
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from medloop.checkout import checkout_folder
from medloop.container import memory
from medloop.local import processes
from medloop.local.jobs import job_site
from medloop.local.jobs.folders import Folder, Launch
from medloop.local.jobs.warm_servers import (
    LIMITS,
    POLL_SECONDS,
    RESPONSE_SECONDS,
    SERVER,
    ColdError,
    Plan,
    ServerLimits,
    connect,
    locked,
    make_folder,
    read_text,
    start_server,
)
from medloop.local.processes import Process
from medloop.local.state.home import Home
from medloop.local.state.log_streams import LogStream
from medloop.projects import package_folders

MINUTES_VARIABLE = "MEDLOOP_WARM_MINUTES"
"""Minutes without a job after which a server ends; 0 starts every job cold."""
DEFAULT_MINUTES = "10"
_CODE = (SERVER, SERVER.with_name("warm_entry.py"), Path(memory.__file__), Path(job_site.__file__))
_RENEWED_VARIABLES = ("TMPDIR", "PYTHONPATH")
_OWN_VARIABLES = (
    *_RENEWED_VARIABLES,
    *("ML_ROOT", "SAGEMAKER_BIND_TO_PORT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"),
    *("WANDB_API_KEY", "WANDB_ENTITY", "WANDB_MODE", "WANDB_PROJECT"),
)
"""Variables whose value is a job's own: packages that read one on import (a server finds out) start cold."""
_OWN_SUFFIXES = ("_JOB_NAME", "_JOB_ARN")


@dataclass
class WarmProcess:
    """A program that a server forked; see `warm_server` for its keeper and the messages.

    Args:
        pid: Its number, which nothing else has before `poll` or `wait` returned a code.
        stdout: What it prints.
        connection: To its keeper.
    """

    pid: int
    stdout: IO[str] | None
    connection: socket.socket

    def __post_init__(self) -> None:
        self.returncode: int | None = None
        self._code: int | None = None
        self._lost = False
        self._lock = threading.Lock()

    def has_ended(self, seconds: float = 0.0) -> bool:
        """True if it has ended, now or within this time; it isn't reaped."""
        if seconds and self._code is None:
            _is_readable(self.connection, seconds)
        with self._lock:
            return self._has_code()

    def poll(self) -> int | None:
        """The return code once it has ended; it is reaped then."""
        with self._lock:
            if self.returncode is None and self._has_code():
                self.returncode = self._code
                self.connection.close()
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired([str(self.pid)], timeout or 0.0)
            time.sleep(POLL_SECONDS)
        return code

    def signal_group(self, number: int) -> None:
        """Send a signal to its group, unless its number may be another's by now."""
        with self._lock:
            if self.returncode is None and not self._lost:
                processes.signal_own_group(self.pid, number)

    def _has_code(self) -> bool:
        if self._code is None and _is_readable(self.connection, 0):
            message = _message(self.connection)
            self._lost = not message  # its keeper was killed, and the system kills it with its keeper
            self._code = message.get("code", -signal.SIGKILL)
        return self._code is not None


def start_program(
    home: Home,
    folder: Folder,
    launch: Launch,
    log: LogStream,
    *,
    with_parent: bool = False,
    is_cancelled: Callable[[], bool] = lambda: False,
    limits: ServerLimits = LIMITS,
) -> Process:
    """Start a staged program, warm if it can be.

    Args:
        home: The home whose servers it may use.
        folder: Where it is staged.
        launch: Its command, environment and working folder.
        log: Gets a line if it should have started warm but couldn't.
        with_parent: Whether the system kills it when the thread that started it ends, as it does a serving container.
            Such a program may run for days: its server doesn't wait for its end.
        is_cancelled: Polled while a server starts; if true, the program doesn't wait for it.
        limits: Of the servers.

    Raises:
        OSError: The program can't be started.
        StagingError: Its container can't.
    """
    if launch.program is not None:
        from medloop.local.jobs.container_runtime import contain

        launch = contain(home, folder, launch, launch.program, log, is_cancelled)
    try:
        if (plan := _plan(home, folder, launch, limits)) is not None:
            return _start_warm(plan, _program(launch, folder, lasts=with_parent), limits, is_cancelled)
    except (ColdError, OSError) as error:
        log.write(f"medloop: not started warm: {error}")
    return processes.start(launch.argv, cwd=launch.cwd, env=launch.env, with_parent=with_parent)


def _minutes() -> float:
    text = os.environ.get(MINUTES_VARIABLE) or DEFAULT_MINUTES
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not math.isfinite(minutes):
        raise ColdError(f"{MINUTES_VARIABLE}={text[:20]!r}: is not a number of minutes; write 10, or 0 for none")
    return max(0.0, minutes)


def _plan(home: Home, folder: Folder, launch: Launch, limits: ServerLimits) -> Plan | None:
    """The server of a program; None if it is of no kind that starts warm."""
    preload = _preload(launch)
    if not preload or launch.is_launcher or launch.argv[0] != sys.executable or not Path("/proc/self/ns").exists():
        return None
    if not (minutes := _minutes()):
        return None
    prefix, _, rest = launch.env["PYTHONPATH"].partition(str(folder.root / "code"))
    paths = [path for path in rest.split(os.pathsep) if path]
    env = {name: value for name, value in launch.env.items() if not _is_own(name)}
    if prefix != f"{folder.root / 'site'}{os.pathsep}" or not all(map(os.path.isabs, paths)):
        raise ColdError("PYTHONPATH has a relative path")
    if variable := next((name for name in env if str(folder.root) in env[name]), None):
        raise ColdError(f"{variable} refers to the job's folder")
    config = {
        "preload": preload,
        "paths": paths,
        "checkout": checkout_folder(),
        "packages": [*package_folders()],
        "job_site": job_site.__file__,
        "memory": memory.__file__,
        "idle_seconds": minutes * 60,
        "reserve": limits.reserve,
        "own": [name for name in _OWN_VARIABLES if name not in _RENEWED_VARIABLES],
    }
    key = json.dumps([sys.executable, config, env, _inherited(), *map(read_text, _CODE)], sort_keys=True)
    return Plan((home.root / "warm").resolve() / hashlib.sha256(key.encode()).hexdigest()[:16], env, config)


def _is_own(name: str) -> bool:
    """True for variables whose value is a job's own, or that this project alone reads."""
    return name in _OWN_VARIABLES or name.startswith("MEDLOOP_") or name.endswith(_OWN_SUFFIXES)


def _preload(launch: Launch) -> list[str]:
    """The modules that the program's container.toml preloads; none if it says nothing that can be read."""
    program = launch.cwd / launch.argv[1] if len(launch.argv) > 1 else launch.cwd
    if not program.is_file():
        return []
    try:
        names = tomllib.loads((program.parent / "container.toml").read_text(encoding="utf-8")).get("preload", [])
    except (OSError, ValueError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _inherited() -> dict[str, Any]:
    """Properties that a process inherits from the one that starts it, in addition to the environment."""
    status = dict(line.partition(":")[::2] for line in read_text("/proc/self/status").splitlines())
    names = ("Uid", "Gid", "Groups", "SigIgn", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp", "Mems_allowed_list")
    properties = ("cgroup", "oom_score_adj", "personality", "coredump_filter", "timerslack_ns")
    limits = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {
        "status": [status.get(name) for name in names],
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in limits},
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "cores": sorted(os.sched_getaffinity(0)),
        "namespaces": sorted(os.readlink(path) for path in Path("/proc/self/ns").iterdir()),
        "policy": [os.sched_getscheduler(0), os.readlink("/proc/self/root")],
        "properties": [read_text(f"/proc/self/{name}") for name in properties],
        "boot": read_text("/proc/sys/kernel/random/boot_id"),
    }


def _start_warm(
    plan: Plan, program: dict[str, Any], limits: ServerLimits, is_cancelled: Callable[[], bool]
) -> WarmProcess:
    make_folder(plan.folder)
    with locked(plan.folder, is_cancelled):
        if (process := _request(plan, program)) is not None:
            return process
        start_server(plan, limits, is_cancelled)
        if (process := _request(plan, program)) is not None:
            return process
    raise ColdError("its server ended at once")


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Process id and user id of the server."""
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid


def _program(launch: Launch, folder: Folder, *, lasts: bool) -> dict[str, Any]:
    """The request for a program, as `warm_entry.Request` describes it."""
    status = dict(line.partition(":")[::2] for line in read_text("/proc/self/status").splitlines())
    return {
        "argv": launch.argv,
        "cwd": str(launch.cwd),
        "env": launch.env,
        "umask": int(status["Umask"], 8),
        "site": str(folder.root / "site"),
        "code": str(folder.root / "code"),
        "lasts": lasts,
    }


def _request(plan: Plan, program: dict[str, Any]) -> WarmProcess | None:
    """Start a program on a server; None if there is none, or it ended because it is outdated.

    Raises:
        ColdError: The server hangs (and is killed), is another user's, or doesn't accept this program.
    """
    connection = connect(plan.folder)
    if connection is None:
        return None
    if _peer(connection)[1] != os.getuid():
        raise ColdError("its server is another user's")
    reading, writing = os.pipe()
    try:
        descriptor = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writing]))
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # the server ends, without a response
                connection.sendmsg([json.dumps(program).encode()], [descriptor])
        finally:
            os.close(writing)
        response = _await_response(connection)
        if "pid" in response:
            connection.send(b"g")
            stdout = os.fdopen(reading, encoding="utf-8", errors="replace")
            return WarmProcess(response["pid"], stdout, connection)
    except BaseException:
        os.close(reading)
        connection.close()
        raise
    os.close(reading)
    connection.close()
    if "refused" in response:
        raise ColdError(response["refused"])
    return None


def _await_response(connection: socket.socket) -> dict[str, Any]:
    """The first message about a program; empty when the server ended.

    Raises:
        ColdError: None came in time.
    """
    if _is_readable(connection, RESPONSE_SECONDS):
        return _message(connection)
    pid, _ = _peer(connection)
    with suppress(OSError):  # the connection is open, so this number is still the server's
        os.kill(pid, signal.SIGKILL)
    raise ColdError(f"its server didn't respond within {RESPONSE_SECONDS:.0f} s and was ended")


def _is_readable(connection: socket.socket, seconds: float) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _message(connection: socket.socket) -> dict[str, Any]:
    """The next message; empty when the other side is gone."""
    try:
        return dict(json.loads(connection.recv(10_000) or b"{}"))
    except OSError:
        return {}
