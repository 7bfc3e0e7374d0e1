"""A folder that appears whole or not at all: written under a temporary name next to it, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medloop.errors import TargetError


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `target` when the block ends well, and vanishes otherwise.

    Raises:
        TargetError: `target` isn't empty, or can't be written.
    """
    _refuse_occupied(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}-", dir=target.parent))
    except OSError as error:
        raise TargetError(f"{target}: can't be written ({error.strerror}); give another folder") from None
    try:
        yield scratch
        scratch.chmod(0o755)
        os.replace(scratch, target)
    except OSError as error:
        raise TargetError(f"{target}: can't be written ({error.strerror}); give another folder") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _refuse_occupied(target: Path) -> None:
    try:
        if target.is_dir():
            if any(target.iterdir()):
                raise TargetError(f"{target}: folder is not empty; give a new or an empty one")
        elif os.path.lexists(target):
            raise TargetError(f"{target}: is a file; give the path of a folder")
    except OSError as error:
        raise TargetError(f"{target}: can't be read ({error.strerror}); give another folder") from None
