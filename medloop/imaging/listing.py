"""Folders of a data set as they are listed: sorted, without hidden files and what operating systems add. Torch-free."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from medloop.errors import DataError, printable

IMAGE, LABEL = "img", "label"
"""Stems of a subject's files."""
MAX_DEPTH = 6
"""Levels of folders in which another layout is looked for."""
_SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"})
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})
DOCUMENTS = (".md", ".txt", ".csv", ".json", ".pdf", ".html", ".yaml", ".yml")
"""Suffixes of files that may be next to images."""


@dataclass(frozen=True)
class DataFolder:
    """A folder below a data set's root; listed once, at its first use. Links are followed.

    Attributes:
        path: The folder.
        relative: Its path relative to the root, POSIX; "" for the root.
    """

    path: Path
    relative: str = ""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.name

    def below(self, name: str) -> str:
        """The path of an entry relative to the root."""
        return f"{self.relative}/{name}" if self.relative else name

    @cached_property
    def _entries(self) -> tuple[list[str], list[str]]:
        try:
            with os.scandir(self.path) as scanned:
                entries = sorted((entry.name, entry.is_dir()) for entry in scanned if not entry.name.startswith("."))
        except OSError as error:
            raise DataError(
                printable(f"{self.path}: can't be listed ({error.strerror}); check its permissions")
            ) from None
        folders = [name for name, is_folder in entries if is_folder and name.lower() not in _SYSTEM_FOLDERS]
        return folders, [name for name, is_folder in entries if not is_folder and name.lower() not in _SYSTEM_FILES]

    @cached_property
    def folders(self) -> list[DataFolder]:
        """The folders in it."""
        return [DataFolder(self.path / name, self.below(name)) for name in self._entries[0]]

    @property
    def files(self) -> list[str]:
        """Names of the files in it."""
        return self._entries[1]

    def files_with(self, suffixes: tuple[str, ...]) -> list[str]:
        """Names of the files with one of the suffixes, in upper or lower case."""
        return [name for name in self.files if name.lower().endswith(suffixes)]

    def find(self, *names: str) -> DataFolder | None:
        """The first folder with one of the names, in upper or lower case."""
        return next((folder for folder in self.folders if folder.name.lower() in names), None)


def walk(folder: DataFolder, depth: int = MAX_DEPTH) -> Iterator[DataFolder]:
    """Yield a folder and those in it, down to a depth."""
    yield folder
    if depth:
        for inner in folder.folders:
            yield from walk(inner, depth - 1)


def names_not_in_utf8(root: Path) -> Iterator[str]:
    """List the paths, relative to the root, of files and folders whose own names are not in UTF-8; hidden ones too."""
    return _not_in_utf8(root, "", frozenset())


def _not_in_utf8(folder: Path, prefix: str, above: frozenset[str]) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in above:  # A link in a circle.
        return
    try:
        with os.scandir(folder) as scanned:
            entries = sorted((entry.name, entry.is_dir()) for entry in scanned)
    except OSError:  # A folder that can't be listed is a problem of its own.
        return
    for name, is_folder in entries:
        if not name.isascii() and not _is_utf8(name):
            yield prefix + name
        if is_folder:
            yield from _not_in_utf8(folder / name, f"{prefix}{name}/", above | {real})


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
