"""The rule of docs/glossary.md on the names of classes."""

from __future__ import annotations

import ast

from tests.architecture.source import python_files, tree


def test_no_two_public_classes_share_a_name() -> None:
    """No public class of medloop has the name of another class or of a type alias."""
    classes: dict[str, list[str]] = {}
    aliases: dict[str, list[str]] = {}
    for path in python_files("medloop"):
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes.setdefault(node.name, []).append(str(path))
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                aliases.setdefault(node.targets[0].id, []).append(str(path))
    files_by_name = {name: files + aliases.get(name, []) for name, files in classes.items()}
    assert {name: files for name, files in files_by_name.items() if len(files) > 1} == {}
