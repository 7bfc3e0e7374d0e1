"""Imports point from a floor to the same floor or a lower one, and never in a circle (docs: README, Layout).

Every import counts: at the top of a module, inside a function, and only for type checkers. An import inside a function
makes start-up fast, and one for type checkers avoids an error; neither makes a module independent of the other.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, neighbours, python_files

FLOORS = (
    (
        "medloop/checkout.py",
        "medloop/ci.py",
        "medloop/errors.py",
        "medloop/file_state.py",
        "medloop/log_metrics.py",
        "medloop/projects.py",
        "medloop/s3_uri.py",
        "medloop/yaml_text.py",
    ),
    ("medloop/documents",),
    (
        *(
            "medloop/bundle.py",
            "medloop/container",
            "medloop/definition",
            "medloop/champion.py",
            "medloop/input_data.py",
        ),
        *("medloop/setting_errors.py", "medloop/data_card.py", "medloop/presets.py", "medloop/identity.py"),
    ),
    ("medloop/imaging", "medloop/dicom", "medloop/importing"),
    ("medloop/training",),
    ("medloop/evaluation",),
    ("medloop/cloud", "medloop/local", "medloop/samples", "medloop/serving", "medloop/settings.py", "steps"),
    ("medloop/cli.py", "medloop/commands", "containers", "infra", "pipelines"),
    ("aws_smoke",),
)
"""From the lowest floor up. A module may import modules of its own floor and of lower floors."""


def modules() -> list[Path]:
    """Every module except the packages' empty `__init__`."""
    return [
        path
        for path in python_files("medloop", "steps", "pipelines", "infra", "aws_smoke")
        if path.name != "__init__.py"
    ]


def floor_of(path: Path) -> int:
    """The number of a module's floor, 0 at the ground."""
    name = path.relative_to(ROOT).as_posix()
    fitting = [
        number for number, prefixes in enumerate(FLOORS) for prefix in prefixes if f"{name}/".startswith(f"{prefix}/")
    ]
    assert len(fitting) == 1, f"{name}: is on {len(fitting)} floors; add it to FLOORS"
    return fitting[0]


def imported(path: Path) -> set[Path]:
    """The modules of this repository that a module imports."""
    return {file for file in neighbours(path) if file.name != "__init__.py"}


@pytest.mark.parametrize("number", range(len(FLOORS)))
def test_no_module_imports_from_a_higher_floor(number: int) -> None:
    """A module depends on no higher floor."""
    files = [path for path in [*modules(), *python_files("containers")] if floor_of(path) == number]
    violations = [
        f"{path.relative_to(ROOT)} imports {file.relative_to(ROOT)}"
        for path in files
        for file in sorted(imported(path))
        if floor_of(file) > number
    ]
    assert violations == []


def test_there_are_no_import_circles() -> None:
    """The import graph has a topological order."""
    try:
        TopologicalSorter({path: imported(path) for path in modules()}).prepare()
    except CycleError as error:
        raise AssertionError(" <- ".join(str(path.relative_to(ROOT)) for path in error.args[1])) from None
