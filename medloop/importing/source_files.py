"""Files of a source: paths that stay in it, safe names in the data set, and links instead of copies. Torch-free."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from medloop.documents.names import tidy
from medloop.imaging.files import NOT_REGULAR, FileError
from medloop.imaging.layouts import NOT_UTF8, SPLIT_FOLDERS
from medloop.imaging.listing import DOCUMENTS, DataFolder
from medloop.importing.cases import Omission

_RESERVED = frozenset([*SPLIT_FOLDERS, "__macosx", "@eadir", "$recycle.bin", "lost+found"])
"""Names of folders that the product doesn't take for a case or a class."""
_FORMULAS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")
"""Beginnings that patients.csv would escape, so that a spreadsheet runs no cell (`medloop.documents.csv_text`)."""
_FORMULA_INSIDE = re.compile("[;,|](?=[\\s']*[=+@\uff1d\uff0b\uff0d\uff20-])")
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
    """The path of a source file that may be read.

    Raises:
        FileError: It is a link that leads out of the source, no regular file, or its name is not in UTF-8.
    """
    try:
        str(path.relative_to(root)).encode()
    except UnicodeEncodeError:
        raise FileError(path, NOT_UTF8) from None
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(root)):
        raise FileError(path, f"is a link that {_OUTSIDE}")
    if not real.is_file():  # A pipe would block its reader.
        raise FileError(path, NOT_REGULAR)
    return path


def list_unread(folder: DataFolder, ends: tuple[str, ...]) -> Iterator[Omission]:
    """Leave out the files of a folder of images that are neither read nor documents."""
    for name in folder.files:
        if not name.lower().endswith((*ends, *DOCUMENTS)):
            yield Omission((folder.below(name),), "is in a format that isn't imported; convert or remove it")


def link_file(source: Path, target: Path) -> None:
    """Give a file a second name, without a copy; on another disk it is copied.

    Args:
        source: The file, or a link to it.
        target: Its folder is made where it is missing.

    Raises:
        FileError: It can't be read.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(os.path.realpath(source), target)  # os.link would link a link itself.
    except OSError:
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise FileError(source, f"can't be read ({error.strerror}); check its permissions") from None


def safe_name(name: str) -> str:
    """A name as that of a case or a class: one part of a path, neither hidden nor a split's."""
    plain = tidy(name).replace("/", "-").replace("\\", "-").lstrip(". ").strip() or "case"
    plain = _FORMULA_INSIDE.sub("_", plain)
    return f"case-{plain}" if plain.lower() in _RESERVED or plain.startswith(_FORMULAS) else plain


def unique_names(names: Iterable[str]) -> list[str]:
    """The names, numbered where they would be one (on any file system)."""
    used: set[str] = set()
    numbers: Counter[str] = Counter()
    result = []
    for name in names:
        stem, dot, suffix = name.partition(".") if "/" not in name else _divide(name)
        candidate = name
        while candidate.casefold() in used:
            numbers[name.casefold()] += 1
            candidate = f"{stem}-{numbers[name.casefold()] + 1}{dot}{suffix}"
        used.add(candidate.casefold())
        result.append(candidate)
    return result


def _divide(name: str) -> tuple[str, str, str]:
    folder, _, last = name.rpartition("/")
    stem, dot, suffix = last.rpartition(".")
    return (f"{folder}/{stem}", dot, suffix) if dot else (name, "", "")
