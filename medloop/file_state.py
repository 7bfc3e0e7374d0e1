"""State of a file by which a cache recognises that the file is unchanged."""

from __future__ import annotations

import os
import time

_FINE_SECONDS, _COARSE_SECONDS = 0.05, 2.0
"""Granularity of a file system's times: those of Linux's own, and those that store whole seconds."""
_SECOND_NS = 1_000_000_000


def file_state(status: os.stat_result) -> str:
    """The state of a file: size, inode, and times of content and of inode in nanoseconds.

    `cp -p`, `rsync -t`, `touch -r` and restored backups set the time of the content (mtime), never that of the inode
    (ctime). A new mode or another hard link changes the ctime too: the file is then read again.
    """
    return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}-{status.st_ctime_ns}"


def is_settled(status: os.stat_result) -> bool:
    """True if a change from now on gives the file another state, because its times differ from the current time.

    A file that was written within the granularity of the times may be written again without a trace.
    """
    granularity = _FINE_SECONDS if status.st_ctime_ns % _SECOND_NS else _COARSE_SECONDS
    return abs(time.time() - status.st_ctime_ns / _SECOND_NS) > granularity
