"""A lock on a file for the processes of one host, by flock: it is free when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lock_file(path: Path, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold a file's lock.

    Args:
        path: The file; it and its folder are made where they don't exist.
        wait_seconds: How long another process's lock is waited for.

    Raises:
        TimeoutError: Another process holds it, or its file system knows no locks.
        OSError: The file can't be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        deadline = time.monotonic() + wait_seconds
        while not _lock(file.fileno()):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{path.name}: another process has held its lock for {wait_seconds:g} s")
            time.sleep(0.1)
        yield


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
