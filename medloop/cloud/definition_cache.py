"""Remembered definitions: what an earlier command built from the same inputs, without the seconds that the SDK takes.

One file an entry in the user's cache folder (MEDLOOP_CACHE), which every home and every target share. An entry is used
only if a build would give the same bytes: its name is the digest of settings, target, commit and versions
(medloop.cloud.build_inputs), and source files, bundles and images are compared with those that it records. Anything
else, such as a torn file, is built again. A folder that can't be written is read.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from medloop.cloud.build_inputs import installed_at, is_unchanged, read_sources
from medloop.cloud.images import find_digest
from medloop.errors import SettingError

if TYPE_CHECKING:
    from medloop.cloud.target import Target

CACHE_VARIABLE = "MEDLOOP_CACHE"
MAX_ENTRIES = 64
"""Entries of 50 to 100 KB; the least recently used are removed."""


class _Entry(BaseModel):
    """A definition, the inputs that it was built from, and the objects that its steps refer to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    definition: str
    sources: dict[str, str]
    """Digest by source root."""
    bundles: dict[str, str]
    """Code digest by container."""
    images: dict[str, str | None]
    """Digest in ECR by container."""
    objects: dict[str, str]
    """Base64 of its bytes by key."""


def cache_folder(environment: Mapping[str, str] | None = None, name: str = "definitions") -> Path | None:
    """A folder of entries: below MEDLOOP_CACHE, else the user's cache folder; None if the user has none."""
    environment = os.environ if environment is None else environment
    if chosen := environment.get(CACHE_VARIABLE):
        return Path(os.path.abspath(Path(chosen).expanduser())) / name
    base = Path(environment.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # as the standard says: https://specifications.freedesktop.org/basedir-spec/latest/
        try:
            base = Path.home() / ".cache"
        except RuntimeError:
            return None
    return base / "medloop" / name


def recall(folder: Path, key: str, target: Target) -> str | None:
    """The remembered definition; None if there is none, or if a build would give another one.

    Args:
        folder: The entries.
        key: The digest of the build's inputs.
        target: Gets the bundles and objects that the definition's steps refer to.

    Raises:
        TargetError: On AWS, ECR can't be read.
    """
    entry = _read(folder / f"{key}.json")
    if entry is None or entry.key != key or not _is_current(entry, target):
        return None
    target.objects.update({name: base64.b64decode(text) for name, text in entry.objects.items()})
    target.images.update(entry.images)
    with suppress(OSError):
        os.utime(folder / f"{key}.json")
    return entry.definition


def remember(folder: Path, key: str, definition: str, target: Target) -> None:
    """Keep a definition that was just built; not if its sources changed since this process began to import them.

    Args:
        folder: The entries.
        key: The digest of the build's inputs.
        definition: The checked definition.
        target: The target with what the build recorded.
    """
    with suppress(OSError):
        sources = read_sources()
        if max(sources.changed, installed_at()) >= process_start():
            return
        entry = _Entry(
            key=key,
            definition=definition,
            sources=dict(sources.digests),
            bundles={name: bundle.digest for name, bundle in target.bundles.items()},
            images=dict(target.images),
            objects={name: base64.b64encode(data).decode() for name, data in target.objects.items()},
        )
        _write(folder / f"{key}.json", entry)
        _prune(folder)


def process_start() -> float:
    """Seconds since the epoch at which this process started, up to a second too early."""
    return psutil.Process().create_time()


def _is_current(entry: _Entry, target: Target) -> bool:
    try:
        return (
            is_unchanged(entry.sources)
            and all(target.code_digest(name) == digest for name, digest in entry.bundles.items())
            and all(find_digest(target, name) == digest for name, digest in entry.images.items())
        )
    except SettingError:  # a container that is gone: the build reports it
        return False


def _read(path: Path) -> _Entry | None:
    """The entry; None if it is missing, torn, or a file that another user may have written."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
                return None
            digest, _, text = file.read().partition(b"\n")
        if digest.decode() != hashlib.sha256(text).hexdigest():
            return None
        return _Entry.model_validate_json(text)
    except (OSError, UnicodeDecodeError, ValidationError):
        return None


def _write(path: Path, entry: _Entry) -> None:
    """Write an entry at once and for its owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = entry.model_dump_json().encode()
    with NamedTemporaryFile(dir=path.parent, prefix=f"{path.stem}.", delete=False) as file:
        try:
            file.write(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
            file.flush()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _prune(folder: Path) -> None:
    """Remove the entries that were not used for the longest time, and what killed processes left."""
    files = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another process prunes
            files.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(files, reverse=True)[MAX_ENTRIES:]:
        path.unlink(missing_ok=True)
