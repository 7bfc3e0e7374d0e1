"""The folder of the local backend, and the names of its account."""

from __future__ import annotations

import errno
import os
import secrets
import string
import time
from dataclasses import dataclass
from pathlib import Path

from medloop.errors import TargetError

ACCOUNT = "000000000000"
REGION = "us-east-1"
BUCKET = "medloop-local"
ROLE_NAME = "medloop-local"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/{ROLE_NAME}"
HOME_VARIABLE = "MEDLOOP_HOME"

_CANT_BE_MADE = {errno.ENOTDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.ENAMETOOLONG}


_OF_RECORDS = ("engines", "logs", "s3")


@dataclass(frozen=True)
class Home:
    """The folder of the local backend's state (`MEDLOOP_HOME`, default `.medloop`).

    Args:
        root: Absolute path; made on first use.
    """

    root: Path

    @classmethod
    def find(cls, home: Path | None = None) -> Home:
        """The requested home, else `MEDLOOP_HOME`, else `.medloop` in the current folder.

        Raises:
            TargetError: The path is below something that isn't a folder.
        """
        root = Path(home or os.environ.get(HOME_VARIABLE) or ".medloop").expanduser().absolute()
        existing = next(path for path in (root, *root.parents) if os.path.lexists(path))
        if not existing.is_dir():
            raise TargetError(f"{root}: can't be written, because {existing} is not a folder; set {HOME_VARIABLE}")
        return cls(root)

    @property
    def database(self) -> Path:
        """The SQLite file of all records."""
        return self.root / "medloop.db"

    @property
    def buckets(self) -> Path:
        """The folder whose subfolders are the buckets."""
        return self.root / "s3"

    @property
    def logs(self) -> Path:
        """The folder of job logs: `<group>/<stream>`."""
        return self.root / "logs"

    def job(self, name: str) -> Path:
        """The folder in which a running job is staged."""
        return self.root / "jobs" / name

    def folder(self, *parts: str) -> Path:
        """A folder below home, made when missing.

        Raises:
            TargetError: It can't be made.
        """
        path = self.root.joinpath(*parts)
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            self.root.mkdir(mode=0o700, exist_ok=True)
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno not in _CANT_BE_MADE:
                raise
            reason = os.strerror(error.errno or 0)
            raise TargetError(f"{path}: can't be written ({reason}); set {HOME_VARIABLE} to another folder") from error
        return path

    def num_leftovers(self) -> int:
        """The number of files that exist only after records were made: logs, engines' output, stored objects."""
        files = (
            Path(folder, name) for top in _OF_RECORDS for folder, _, names in os.walk(self.root / top) for name in names
        )
        return sum(not file.is_symlink() for file in files)


def arn(resource: str) -> str:
    """The ARN of a SageMaker resource of the local account."""
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{resource}"


def new_id(length: int = 12) -> str:
    """A random identifier as SageMaker forms them: lower-case letters and digits."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(length))


def now() -> float:
    """Seconds since the epoch, to the millisecond, as the service's time stamps are."""
    return round(time.time(), 3)
