"""The journal of an import: which cases are written, from which files. A later import resumes by it. Torch-free."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from medloop.documents.file_names import IMPORT_FOLDER
from medloop.errors import TargetError
from medloop.importing.cases import ImportCase

_FILE = "journal.jsonl"


@dataclass(frozen=True)
class WrittenCase:
    """A line of the journal.

    Attributes:
        name: As in `ImportCase`.
        fingerprint: Digest of the source files' names, sizes and times, and of the recipe.
        outputs: Size and modification time (nanoseconds) of each written file, by its path in the data set.
        warnings: Those of writing the case.
    """

    name: str
    fingerprint: str
    outputs: dict[str, tuple[int, int]]
    warnings: tuple[str, ...] = ()

    def is_intact(self, target: Path) -> bool:
        """True if the written files are there and unchanged."""
        return bool(self.outputs) and all(_state(target / name) == tuple(s) for name, s in self.outputs.items())


class Journal:
    """The written cases of a data set, appended one by one: a crash loses no more than the line at hand.

    Args:
        target: The data set's folder.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._path = target / IMPORT_FOLDER / _FILE
        self._cases = {case.name: case for case in self._read()}

    def __len__(self) -> int:
        """Number of the written cases."""
        return len(self._cases)

    def find(self, name: str, fingerprint: str) -> WrittenCase | None:
        """The case that an earlier import wrote from the same files, if it is intact."""
        case = self._cases.get(name)
        return case if case and case.fingerprint == fingerprint and case.is_intact(self._target) else None

    def add(self, name: str, fingerprint: str, warnings: tuple[str, ...]) -> WrittenCase:
        """Append a case that is in its place."""
        path = self._target / name
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        states = {file.relative_to(self._target).as_posix(): _state(file) for file in files}
        case = WrittenCase(name, fingerprint, {name: state for name, state in states.items() if state}, warnings)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(case)) + "\n")
        self._cases[name] = case
        return case

    def names(self) -> Iterator[str]:
        """The written cases."""
        return iter(self._cases)

    def _read(self) -> Iterator[WrittenCase]:
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        except (OSError, UnicodeDecodeError):
            raise TargetError(f"{self._path}: can't be read; remove it to write every case again") from None
        for line in lines:
            try:
                values = json.loads(line)
                yield WrittenCase(
                    values["name"], values["fingerprint"], values["outputs"], tuple(values.get("warnings", ()))
                )
            except (ValueError, KeyError, TypeError):  # The line that a crash tore.
                continue


def fingerprint(root: Path, case: ImportCase) -> str:
    """Digest of all that decides a case's content, without reading it: the files' names, sizes and times."""
    digest = hashlib.sha256(case.recipe.encode())
    for name in case.files:
        digest.update(f"\n{name}\t{_state(root / name)}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _state(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
