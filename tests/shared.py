"""What the tests of one run share: folders that are made once, and the servers that jobs are forked from."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

WARM = "warm-servers"


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """The folder that all workers of this run share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first worker makes, and that the others wait for.

    Args:
        factory: Knows the folder of this run.
        name: Of the folder, one for each content.
        make: Fills an empty folder; if it raises, the next test that needs the folder calls it again.

    Returns:
        The folder. Tests only read it.
    """
    folder = shared_folder(factory) / name
    with folder.with_name(f"{name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=folder.parent))
            make(unfinished)
            unfinished.rename(folder)
    return folder


def share_warm_servers(factory: pytest.TempPathFactory, home: Path) -> None:
    """Let a home use the servers of the whole run: importing torch and MONAI takes each new server 8 s of CPU time."""
    servers = shared_folder(factory) / WARM
    servers.mkdir(mode=0o700, exist_ok=True)
    home.mkdir(parents=True, exist_ok=True)
    (home / "warm").symlink_to(servers, target_is_directory=True)


def end_warm_servers(base: Path) -> None:
    """End this run's servers: each ends when its socket is gone."""
    for socket in (base / WARM).glob("*/socket"):
        socket.unlink(missing_ok=True)
    shutil.rmtree(base / WARM, ignore_errors=True)
