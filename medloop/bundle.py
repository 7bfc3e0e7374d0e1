"""Containers' code as content-addressed archives: the same files give the same bytes, and their digest names the image.

A bundle is what `containers/<name>/container.toml` includes, at the archive's root, so that
`containers/<name>/main.py` is the entry point and `medloop` is importable. The local backend unpacks it;
on AWS the image of that tag is built from it.

Containers are next to medloop, and in the packages that users' pipelines come from (`medloop.projects`). In those,
`include` names `containers/...` of the package, files of the package by its name, and medloop's own.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import tarfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from medloop.checkout import REPOSITORY
from medloop.documents.reading import first_problem
from medloop.errors import SettingError
from medloop.file_state import file_state, is_settled
from medloop.projects import package_folders

DIGEST_LENGTH = 40
_LEFT_OUT = {"__pycache__", ".DS_Store"}
_LEFT_OUT_SUFFIXES = {".pyc", ".pyo", ".md"}
"""Documentation is no code: a new sentence makes no other image. .dockerignore says the same to builds by hand."""
Kind = Literal["training", "processing", "serving", "lambda"]
Role = Literal["processing", "training", "evaluation", "inference"]
"""The permissions of a job on AWS; infra makes an IAM role for each (docs/security.md)."""


class ContainerSpec(BaseModel):
    """A container folder's container.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Kind
    role: Role | None = None
    """The role of its jobs on AWS; None for a function alone, whose role infra makes with it."""
    base: str
    """The image that the Dockerfile builds on."""
    include: list[str]
    """Paths, files or folders, that the job's code consists of, as the bundle names them."""
    preload: list[str] = []
    """Modules of installed packages that the program imports: the local backend forks its jobs from a process that has
    imported them (medloop/local/jobs/warm.py). Empty: each job is a new process."""
    metrics: dict[str, str] = {}
    """Metric name to the regular expression that finds it in the log."""

    @model_validator(mode="after")
    def _jobs_have_a_role(self) -> Self:
        if (self.role is None) != (self.kind == "lambda"):
            raise ValueError(f'a container of kind "{self.kind}" has {"no" if self.kind == "lambda" else "a"} role')
        return self

    @property
    def is_built_for_gpus(self) -> bool:
        """True if the base image's PyTorch has CUDA, by the image's tag: `-cu133-`, `-gpu-`."""
        return re.search(r"-(cu\d+|gpu)-", self.base) is not None

    @property
    def entry_point(self) -> str:
        """The bundle's path of the program that the job runs."""
        return f"containers/{self.name}/main.py"


@dataclass(frozen=True)
class Bundle:
    """A container's code, packed."""

    name: str
    digest: str
    """The first 40 hexadecimal digits of the SHA-256 of the archive before compression, which differs by zlib."""
    archive: bytes = field(repr=False)
    """A tar."""

    @cached_property
    def data(self) -> bytes:
        """A tar.gz; compressed when it is first needed, which takes five times as long as the packing."""
        return gzip.compress(self.archive, mtime=0)

    @property
    def key(self) -> str:
        """The bundle's key in the artefact bucket."""
        return f"bundles/{self.digest}.tar.gz"


def load_container(name: str, root: Path | None = None) -> ContainerSpec:
    """Read a container's container.toml.

    Args:
        name: The folder below `containers/`.
        root: The folder that contains `containers/`; by default, the one that has the container.

    Raises:
        SettingError: There is no such container, or two, or its container.toml is malformed.
    """
    root = root or _root_of(name)
    path = root / "containers" / name / "container.toml"
    try:
        spec = ContainerSpec.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError:
        raise SettingError(f"container {name}: no containers/{name}/container.toml; name an existing one") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"containers/{name}/container.toml: {error}; fix it") from None
    except ValidationError as error:
        problem = first_problem(error)
        message = f"containers/{name}/container.toml: {problem.field or 'content'}: {problem.reason}; fix it"
        raise SettingError(message) from None
    if spec.name != name:
        raise SettingError(f"containers/{name}/container.toml: name is {spec.name!r}; write {name!r}")
    return spec


def image_containers() -> list[str]:
    """The containers that run as an image, sorted, those of users' projects too: all but functions."""
    folders = {path.parent.name for root in _roots() for path in root.glob("containers/*/container.toml")}
    return [name for name in sorted(folders) if load_container(name).kind != "lambda"]


def _roots() -> list[Path]:
    """The folders that may contain `containers/`."""
    return [REPOSITORY, *package_folders().values()]


def _root_of(name: str) -> Path:
    """The folder below which a container is; medloop's own if there is none.

    Raises:
        SettingError: Two have a container of this name, and images have no other.
    """
    roots = [root for root in _roots() if (root / "containers" / name / "container.toml").exists()]
    if len(roots) > 1:
        raise SettingError(
            f"container {name}: is in {roots[0]}/containers and in {roots[1]}/containers; rename your project's"
        )
    return roots[0] if roots else REPOSITORY


def bundle_files(spec: ContainerSpec, root: Path | None = None) -> list[Path]:
    """The bundle's files as it names them, sorted.

    Raises:
        SettingError: An included path doesn't exist.
    """
    return [Path(name) for name in _members(spec, root or _root_of(spec.name))]


def _members(spec: ContainerSpec, root: Path) -> dict[str, str]:
    """The bundle's files by their names in it, sorted."""
    files: dict[str, str] = {}
    for entry in spec.include:
        base = _base(entry, root)
        path = base / entry
        if not path.exists():
            raise SettingError(f"containers/{spec.name}/container.toml: include {entry!r} doesn't exist; fix the path")
        if belongs(Path(entry)):
            start = len(str(base / "_")) - 1
            included = [str(path)] if path.is_file() else _files_below(str(path))
            files.update({file[start:]: file for file in included})
    return dict(sorted(files.items()))


def _base(entry: str, root: Path) -> Path:
    """The folder that an included path is relative to."""
    first = Path(entry).parts[:1]
    if first == ("containers",):
        return root
    return root.parent if first == (root.name,) and root != REPOSITORY else REPOSITORY


def _files_below(folder: str) -> Iterator[str]:
    """The files of a folder that belong to a bundle; as text, which takes a tenth of the time of paths."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in _LEFT_OUT:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files_below(entry.path)
            elif entry.is_file() and os.path.splitext(entry.name)[1] not in _LEFT_OUT_SUFFIXES:
                yield entry.path


def make_bundle(name: str, root: Path | None = None) -> Bundle:
    """Pack a container's code; the same files always give the same bytes.

    Raises:
        SettingError: The container's folder is malformed.
    """
    root = root or _root_of(name)
    files = _members(load_container(name, root), root)
    data = b"".join([*(_member(Path(file), member) for member, file in files.items()), bytes(2 * tarfile.BLOCKSIZE)])
    data += bytes(-len(data) % tarfile.RECORDSIZE)
    return Bundle(name, hashlib.sha256(data).hexdigest()[:DIGEST_LENGTH], data)


def _member(path: Path, name: str) -> bytes:
    """A file as a member of the archive; several bundles share most files, which are packed once for all."""
    status = path.stat()
    if not is_settled(status):  # a change might leave no trace in its state
        return _pack.__wrapped__(path, name, "")
    return _pack(path, name, file_state(status))


@lru_cache(maxsize=4096)
def _pack(path: Path, name: str, state: str) -> bytes:
    content = path.read_bytes()
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    header = member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return header + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def belongs(file: Path) -> bool:
    """False for documentation, and for what Python and desktops leave in folders of sources."""
    return not _LEFT_OUT.intersection(file.parts) and file.suffix not in _LEFT_OUT_SUFFIXES
