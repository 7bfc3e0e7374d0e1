"""One object of a bucket: its key, its file, and that file's status when it was read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from medloop.file_state import file_state


@dataclass(frozen=True)
class Object:
    """One object: its key, its file, and that file's state when it was read."""

    bucket: str
    key: str
    path: Path
    status: os.stat_result

    @classmethod
    def at(cls, bucket: str, key: str, path: Path) -> Object:
        """The object that is in a file. Raises OSError when the file is gone."""
        return cls(bucket, key, path, path.stat())

    @property
    def size(self) -> int:
        """Bytes of its content."""
        return self.status.st_size

    @property
    def modified(self) -> float:
        """The time of its content, in seconds since 1970."""
        return self.status.st_mtime

    @property
    def fingerprint(self) -> str:
        """The file that was written for it, also after a rename, which changes the file's `state`."""
        return f"{self.status.st_mtime_ns}-{self.status.st_size}-{self.status.st_ino}"

    @property
    def state(self) -> str:
        """The state by which a cache recognises that its content is unchanged."""
        return file_state(self.status)
