"""Docs and code use the words of docs/glossary.md, and the glossary names files that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, python_files

SEARCHED = (
    *("README.md", "CHANGELOG.md", "Makefile", "docs", "benchmarks", "tests"),
    *("medloop", "steps", "pipelines", "containers", "infra"),
)
LISTS = {"docs/glossary.md", "tests/architecture/test_words.py"}
"""Files that name the banned words."""
SUFFIXES = {"", ".md", ".py", ".yaml", ".jinja", ".js", ".css", ".toml", ".json"}
GLOSSARY = ROOT / "docs/glossary.md"

REFUSED = {
    "mend|mends|mended|mending": "fix, correct; in a message the action itself",
    "anew": "again, from scratch",
    "(lies|lie|lay|lying) (in|at|on|below|under|there|elsewhere)": "is in, is stored in",
    "(goes|go|going|went|gone) on": "resumes (from a checkpoint), continues",
    "pass(es|ed)? over(?! the training data)": "skip",
    "nought": "zero, none",
    "beside": "next to, with, in addition to",
    "wish|wishes|inquiry|inquiries": "request",
    "whoever|whomever|nobody|somebody|anybody": "the actor: the user, the approver, no user",
    "whatever|whatsoever": "any, regardless of",
    "but for|nothing but": "except",
    "(spare|spot) machines?": "Spot instance, Spot training",
    "unstated|overruled?|fewest|amiss|lacking|likewise": "missing, overridden, minimum",
    "as (it|they) stands?": "unchanged",
    "in good order": "cleanly",
    "stead|the like|beforehand": "instead of, similar, in advance",
    "(came|come|comes) (to|of)": "results in",
    "told|asked": "reported, requested",
    "less the": "minus",
    "(are|is) held": "is checked, is kept",
}
"""Alternatives of a regular expression, and the words to write instead."""


def texts(*paths: str) -> dict[str, list[str]]:
    """Lines of the files in these places, by path in the repository."""
    files = [file for path in paths for file in ([ROOT / path] if (ROOT / path).is_file() else files_below(path))]
    return {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8").splitlines() for file in files}


def files_below(folder: str) -> list[Path]:
    """The text files below a folder, sorted."""
    return sorted(file for file in (ROOT / folder).rglob("*") if file.suffix in SUFFIXES and file.is_file())


def occurrences(alternatives: str, paths: tuple[str, ...]) -> list[str]:
    """`file:line: text` of each use of the words, names included: `MEND` and `mend_it` are uses of "mend"."""
    pattern = re.compile(rf"(?<![a-z])(?:{alternatives})(?![a-z])", re.IGNORECASE)
    return [
        f"{name}:{number}: {line.strip()}"
        for name, lines in texts(*paths).items()
        for number, line in enumerate(lines, 1)
        if name not in LISTS and pattern.search(line)
    ]


@pytest.mark.parametrize("alternatives", REFUSED)
def test_the_glossarys_words_are_used(alternatives: str) -> None:
    """A banned word fails with its place and the word to write."""
    assert occurrences(alternatives, SEARCHED) == [], f"write: {REFUSED[alternatives]} (docs/glossary.md)"


def test_a_banned_word_is_found_in_a_name() -> None:
    """The pattern looks into names, and not into longer words."""
    pattern = re.compile(r"(?<![a-z])(?:mend)(?![a-z])", re.IGNORECASE)
    assert pattern.search("def mend_it")
    assert not pattern.search("amendment")


def docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Names and docstrings of a file's module, classes, functions and methods."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield getattr(node, "name", "module"), ast.get_docstring(node) or ""


def test_docstrings_begin_with_a_verb_or_a_noun() -> None:
    """A docstring that begins with "Of" or "What" leaves out its noun."""
    named = [
        f"{path.relative_to(ROOT)} {name}: {text.splitlines()[0]}"
        for path in python_files("medloop", "steps", "pipelines", "containers", "infra")
        for name, text in docstrings(path)
        if text.startswith(("Of ", "What "))
    ]
    assert named == []


def test_the_glossary_names_files_that_exist() -> None:
    """Each term's file is there."""
    named = re.findall(
        r"`((?:medloop|steps|pipelines|infra|containers|tests|docs)/[^` ]*)`", GLOSSARY.read_text("utf-8")
    )
    assert len(named) > 40
    assert [path for path in named if not (ROOT / path).exists()] == []
