"""Text reaches the terminal through `medloop.commands.output` only, which escapes what a terminal would obey."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.source import ROOT, nodes, python_files

OUTPUT = ROOT / "medloop" / "commands" / "output.py"
NAMES = frozenset({"print", "Console", "input"})
ATTRIBUTES = frozenset({"echo", "secho", "print_exception", "Console"})
STREAMS = frozenset({"stdout", "stderr"})
HARMLESS = frozenset({"flush", "fileno"})


def writes(path: Path) -> Iterator[str]:
    """The expressions of a file that print, or make a console."""
    harmless = {node.value for node in nodes(path) if isinstance(node, ast.Attribute) and node.attr in HARMLESS}
    for node in nodes(path):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NAMES:
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.func.id}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ATTRIBUTES:
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.func.attr}"
        if isinstance(node, ast.Attribute) and node.attr in STREAMS and node not in harmless and _is_sys(node.value):
            yield f"{path.relative_to(ROOT)}:{node.lineno} sys.{node.attr}"


def _is_sys(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "sys"


def test_commands_print_through_one_module() -> None:
    """No command prints by itself, so that no text escapes `printable`."""
    files = [path for path in python_files("medloop/commands", "medloop/cli.py") if path != OUTPUT]
    assert [line for path in files for line in writes(path)] == []


def test_the_one_module_is_seen() -> None:
    """The rule finds what it forbids."""
    assert {line.rpartition(" ")[2] for line in writes(OUTPUT)} == {"sys.stdout", "sys.stderr"}
