"""The rooms of `medloop/local`: a room imports from itself and from those before it, and no import makes a circle."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tests.architecture.source import ROOT, neighbours, python_files

LOCAL = ROOT / "medloop" / "local"
ROOMS = (
    *("errors.py", "requests.py", "state", "process_identity.py", "processes.py", "functions", "jobs", "tuning"),
    *("hosting", "engine"),
    *("api", "session.py", "runner.py", "function_runner.py"),
)
"""Folders and files below `medloop/local`, each after those that it imports."""


def room_of(path: Path) -> int:
    """The position of a module's room in `ROOMS`."""
    return ROOMS.index(path.relative_to(LOCAL).parts[0])


def imports() -> dict[Path, set[Path]]:
    """The modules of the local backend that each of them imports, without the packages' empty `__init__`."""
    files = [path for path in python_files("medloop/local") if path.name != "__init__.py"]
    return {path: {file for file in neighbours(path) if file in files} for path in files}


def test_a_room_needs_only_those_before_it() -> None:
    """A room depends on no later room."""
    upward = [
        f"{path.relative_to(LOCAL)} imports {file.relative_to(LOCAL)}"
        for path, files in imports().items()
        for file in sorted(files)
        if room_of(file) > room_of(path)
    ]
    assert upward == []


def test_no_circle_of_imports() -> None:
    """No module of the local backend imports itself through others."""
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        names = [str(path.relative_to(LOCAL)) for path in error.args[1]]
        raise AssertionError(f"a circle: {' <- '.join(names)}") from error
