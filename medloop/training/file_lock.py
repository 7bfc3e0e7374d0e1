"""A lock on a file between processes of one host, by flock: the system releases it when the process ends."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lock_file(path: Path, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Lock a file.

    Args:
        path: The file; it and its folder are created.
        wait_seconds: Maximum time to wait for another process's lock.

    Raises:
        TimeoutError: Another process has the lock, or the file system doesn't support locks.
        OSError: The file can't be created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"{path.name}: locked by another process for {wait_seconds:g} s") from None
                time.sleep(0.1)
        yield
