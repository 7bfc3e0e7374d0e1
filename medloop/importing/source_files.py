"""Files of a source: paths that stay in it, safe names in the data set, and links instead of copies. Torch-free."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from medloop.documents.names import tidy
from medloop.imaging.files import FileError
from medloop.imaging.layouts import NOT_UTF8, SPLIT_FOLDERS

_RESERVED = frozenset([*SPLIT_FOLDERS, "__macosx", "@eadir", "$recycle.bin", "lost+found"])
"""Names of folders that the product doesn't take for a case or a class."""
_OUTSIDE = "leads out of the source; put the file itself there, or give the folder that contains both"


class PathError(Exception):
    """A path in a table or a document that can't be used: the reason, without the path."""


def resolve_path(root: Path, text: str) -> Path:
    """The file of the source that a path in a table or a document names.

    Args:
        root: The folder that it is relative to.
        text: As it is written; absolute if it is in the folder.

    Raises:
        PathError: It is elsewhere.
    """
    written = PurePosixPath(text.strip().replace("\\", "/"))
    if not text.strip() or "\0" in text:
        raise PathError("is empty or no path; correct it")
    if ".." in written.parts:
        raise PathError("contains .., and paths are in the source; correct it")
    path = Path(os.path.normpath(root.absolute() / written))
    if not path.is_relative_to(root.absolute()):
        raise PathError("is outside of the source; give the folder that contains it")
    return root / path.relative_to(root.absolute())


def require_inside(root: Path, path: Path) -> Path:
    """The real path of a source file.

    Raises:
        FileError: It is a link that leads out of the source, or its name is not in UTF-8.
    """
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise FileError(path, NOT_UTF8) from None
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(root)):
        raise FileError(path, f"is a link that {_OUTSIDE}")
    return real


def link_file(source: Path, target: Path) -> None:
    """Give a file a second name, without a copy; on another disk it is copied.

    Args:
        source: Its real path: no link.
        target: Its folder is made where it is missing.

    Raises:
        FileError: It can't be read.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise FileError(source, f"can't be read ({error.strerror}); check its permissions") from None


def safe_name(name: str) -> str:
    """A name as that of a case or a class: one part of a path, neither hidden nor a split's."""
    plain = tidy(name).replace("/", "-").replace("\\", "-").lstrip(". ").strip() or "case"
    return f"case-{plain}" if plain.lower() in _RESERVED else plain


def unique_names(names: Iterable[str]) -> list[str]:
    """The names, numbered where they would be one (on any file system)."""
    used: set[str] = set()
    result = []
    for name in names:
        stem, dot, suffix = name.partition(".") if "/" not in name else _divide(name)
        candidate, number = name, 2
        while candidate.casefold() in used:
            candidate, number = f"{stem}-{number}{dot}{suffix}", number + 1
        used.add(candidate.casefold())
        result.append(candidate)
    return result


def _divide(name: str) -> tuple[str, str, str]:
    folder, _, last = name.rpartition("/")
    stem, dot, suffix = last.rpartition(".")
    return (f"{folder}/{stem}", dot, suffix) if dot else (name, "", "")
