"""Processes that are known by more than their number, and how they are ended.

A process id is used again by the system; together with its start time it names one process only. A job's processes
share a session (and so a process group) and carry the job's own ML_ROOT in their environment, which finds those that
left it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

import medloop
from medloop.local.state.home import HOME_VARIABLE, Home

Identity = dict[str, Any]


def identity(pid: int) -> Identity:
    """The record of a process: `{"pid", "started"}`; of one already gone, started is 0."""
    try:
        return {"pid": pid, "started": psutil.Process(pid).create_time()}
    except psutil.NoSuchProcess:
        return {"pid": pid, "started": 0.0}


def alive(process: Identity | None) -> bool:
    """Whether this very process still runs (a zombie doesn't)."""
    if not process:
        return False
    try:
        found = psutil.Process(process["pid"])
        return bool(abs(found.create_time() - process["started"]) < 0.05 and found.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def signal_group(leader: Identity | None, number: int) -> None:
    """Send a signal to the process group that a living leader heads."""
    if leader and alive(leader):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader["pid"], number)


def signal_own_group(pid: int, number: int) -> None:
    """Send a signal to the group of a child of ours that isn't reaped yet, so that the number can't be another's."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def kill_strays(ml_root: Path) -> None:
    """Kill every process that a job left behind, wherever it went."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get("ML_ROOT") == str(ml_root):
                process.send_signal(signal.SIGKILL)


def spawn_module(home: Home, module: str, argument: str) -> Identity:
    """Start `python -m <module> <argument>` detached: it outlives the terminal, and Ctrl-C there doesn't reach it.

    What it prints (only a bug does) goes to `<home>/engines/<last part of argument>.log`.
    """
    code = str(Path(medloop.__file__).parents[1])
    path = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH")]))
    log = home.folder("engines") / f"{argument.rpartition('/')[2]}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            [sys.executable, "-m", module, argument],
            cwd=home.root,
            env={**os.environ, HOME_VARIABLE: str(home.root), "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    found = identity(process.pid)
    # Detached on purpose: without this, Popen's destructor warns that the child still runs.
    process.returncode = 0
    return found
