"""CSV files are written by one module, whose cells are safe to open in a spreadsheet."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.architecture.source import ROOT, nodes, python_files

WRITER = ROOT / "medloop" / "documents" / "csv_text.py"
WRITERS = frozenset({"writer", "DictWriter", "to_csv", "savetxt", "write_csv", "writerow", "writerows"})
"""Functions of csv, pandas, numpy and polars."""


def calls(path: Path) -> list[str]:
    """The calls of a file that write CSV by other means."""
    writers = [node for node in nodes(path) if isinstance(node, ast.Call) and _name(node) in WRITERS]
    return [f"{path.relative_to(ROOT)}:{node.lineno}" for node in writers]


def _name(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""


def test_one_module_writes_csv() -> None:
    """Every other one hands it rows."""
    files = [
        path
        for path in python_files("medloop", "containers", "steps", "pipelines", "infra", "aws_smoke")
        if path != WRITER
    ]
    assert [line for path in files for line in calls(path)] == []


def test_the_one_module_is_seen() -> None:
    """The rule finds what it forbids."""
    assert calls(WRITER)
