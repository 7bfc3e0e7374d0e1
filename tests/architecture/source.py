"""Read the imports of the repository's modules without running them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("medloop", "pipelines", "steps", "infra", "aws_smoke")


def python_files(*folders: str) -> list[Path]:
    """Every Python file below these repository folders (or the file itself), sorted."""
    files: list[Path] = []
    for folder in folders:
        path = ROOT / folder
        files += [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert files, f"nothing in {folders}"
    return [path for path in files if "__pycache__" not in path.parts]


@cache
def tree(path: Path) -> ast.Module:
    """A file's syntax tree, which many tests read."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of a file's syntax tree."""
    return tuple(ast.walk(tree(path)))


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Modules that a file imports anywhere, inside functions too; `from a import b` counts as a and a.b."""
    names: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


@cache
def typing_imports_of(path: Path) -> frozenset[str]:
    """Modules that a file imports only for type checkers, below `if TYPE_CHECKING`."""
    guards = [
        node
        for node in nodes(path)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]
    lines = [node for guard in guards for line in guard.body for node in ast.walk(line)]
    return frozenset(node.module or "" for node in lines if isinstance(node, ast.ImportFrom))


def module_file(module: str) -> Path | None:
    """The file of a module of this repository; None for other modules and for names inside a module."""
    if module.split(".")[0] not in PACKAGES:
        return None
    base = ROOT.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def neighbours(path: Path) -> frozenset[Path]:
    """Files of this repository that a file imports, with their packages."""
    names = {".".join(name.split(".")[: i + 1]) for name in imports_of(path) for i in range(name.count(".") + 1)}
    return frozenset(file for name in names if (file := module_file(name)))


def closure(start: Path) -> set[Path]:
    """Files of this repository that running `start` imports, directly or indirectly, including `__init__` files."""
    seen: set[Path] = set()
    todo = [start]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        todo += neighbours(path)
    return seen
