"""Inputs of a build: settings, target, commit, versions, and the source files that a build executes.

A builder is a function of its settings, its target and its code (docs/extending.md), so two builds with the same inputs
give the same bytes. Installed packages count by name, version and time of installation. All other imported packages
(an editable installation, a checkout) count by the content of their files, as does `containers/`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from medloop.bundle import belongs
from medloop.checkout import REPOSITORY
from medloop.cloud.commit import source_commit
from medloop.cloud.target import Target, sdk_variables

if TYPE_CHECKING:
    from medloop.settings import PipelineSpec, Resolved

_FORMAT = 1
_SECOND_NS = 1_000_000_000
_ENDS = (".dist-info", ".egg-info")
_INSTALLED = tuple(os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib"))
_SITES = {"site-packages", "dist-packages"}


@dataclass(frozen=True)
class SourceFiles:
    """Imported source files by root: a package's folder, or a module's file."""

    digests: Mapping[str, str]
    """SHA-256 over names and contents, by root."""
    changed: float
    """Seconds since the epoch at which the newest of them changed."""


def build_key(target: Target, resolved: Resolved) -> str | None:
    """The digest of all inputs of a build except for source files; None if one of them has no exact text."""
    builder = _builder(resolved.spec)
    try:
        settings = _plain(resolved.settings)
    except TypeError:
        return None
    if builder is None:
        return None
    inputs = {
        "format": _FORMAT,
        "builder": builder,
        "settings": settings,
        "target": [target.name, target.bucket, target.role_arn, target.account, target.region],
        "job_roles": dict(target.job_roles),
        "checkout": [str(REPOSITORY), source_commit(type(resolved.settings).__module__)],
        "python": sys.version,
        "installed": _installed(),
        "sdk": sdk_variables(),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def read_sources() -> SourceFiles:
    """The source files of what this process has imported.

    Raises:
        OSError: A file can't be read.
    """
    trees = {str(root): _read_tree(root) for root in _source_roots()}
    digests = {root: digest for root, (digest, _) in trees.items()}
    return SourceFiles(digests, max(changed for _, changed in trees.values()) / _SECOND_NS)


def is_unchanged(digests: Mapping[str, str]) -> bool:
    """True if the source files below each root are those of the digest."""
    try:
        return all(_read_tree(Path(root))[0] == digest for root, digest in digests.items())
    except OSError:
        return False


def code_digest(root: Path) -> str:
    """A digest of the source files below a folder, of the interpreter and of the installed packages.

    Raises:
        OSError: A file can't be read.
    """
    inputs = [_read_tree(root)[0], sys.version, _installed()]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def installed_at() -> float:
    """Seconds since the epoch at which the newest package was installed."""
    return max((changed for _, changed in _installed()), default=0) / _SECOND_NS


def _builder(spec: PipelineSpec) -> str | None:
    """The builder's name; None if its name doesn't determine its code, such as a closure's."""
    build = spec.build
    if not isinstance(build, FunctionType) or "<" in build.__qualname__ or build.__module__ == "__main__":
        return None
    return f"{spec.name} {build.__module__}.{build.__qualname__}"


def _plain(value: Any) -> Any:
    """Settings as JSON, without what pydantic's own JSON leaves out: types, excluded fields, secrets.

    Raises:
        TypeError: A value has no exact JSON.
    """
    if isinstance(value, BaseModel):
        fields = _plain({**vars(value), **(value.__pydantic_extra__ or {})})
        return {"type": _type(value), "fields": fields, "set": sorted(value.model_fields_set)}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": [[key, _plain(member)] for key, member in value.items()]}
    if type(value) in (list, tuple):
        return {_type(value): [_plain(member) for member in value]}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"{type(value).__name__} has no exact JSON")


def _type(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _installed() -> list[tuple[str, int]]:
    """Installed packages with version and time of installation, in the order of the import path."""
    packages: list[tuple[str, int]] = []
    for folder in sys.path:
        try:
            with os.scandir(folder or ".") as entries:
                scanned = [entry for entry in entries if entry.name.endswith(_ENDS)]
                packages += sorted((package.name, package.stat().st_mtime_ns) for package in scanned)
        except OSError:
            continue
    return packages


def _source_roots() -> set[Path]:
    names = {name.partition(".")[0] for name in list(sys.modules)} - {"__main__"}
    roots = {REPOSITORY / "containers"}
    for name in names:
        members: Mapping[str, Any] = getattr(sys.modules.get(name), "__dict__", {})
        paths: Sequence[str | None] = list(members.get("__path__") or [members.get("__file__")])
        roots.update(Path(path) for path in paths if path and not _is_installed(path))
    return {root for root in roots if root.exists()}


def _is_installed(path: str) -> bool:
    return path.startswith(_INSTALLED) or not _SITES.isdisjoint(Path(path).parts)


def _read_tree(root: Path) -> tuple[str, int]:
    """The digest of a file, or of a folder's names and contents; the time of the newest change, nanoseconds.

    The change is the inode's (ctime): a copy that keeps its time of content is a change too.
    """
    digest, newest, folder = hashlib.sha256(), 0, str(root)
    for path in sorted(_files(folder)):
        with open(path, "rb") as file:
            content = file.read()
            newest = max(newest, os.fstat(file.fileno()).st_ctime_ns)
        digest.update(f"{path.removeprefix(folder)}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
        digest.update(content)
    return digest.hexdigest(), newest


def _files(root: str) -> Iterator[str]:
    if os.path.isfile(root):
        yield root
    seen = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen or not belongs(Path(folder)):
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        paths = (os.path.join(folder, name) for name in names if belongs(Path(name)))
        yield from (path for path in paths if os.path.isfile(path))
