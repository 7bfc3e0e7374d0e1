"""Docs and code use the words of docs/glossary.md, and the glossary names files that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, nodes, python_files

SEARCHED = (
    *("README.md", "CHANGELOG.md", "Makefile", "docs", "benchmarks", "tests"),
    *("medloop", "steps", "pipelines", "containers", "infra", "aws_smoke"),
)
LISTS = {"docs/glossary.md", "tests/architecture/test_words.py", "medloop/evaluation/report/viewer/LICENSE"}
"""Files that name the banned words, and texts of others."""
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
PRODUCT = ("medloop", "steps", "pipelines", "containers", "infra", "aws_smoke")
VAGUE = frozenset(
    {
        *("answer", "answers", "ask", "asked", "at_once", "found", "given", "got", "held", "here", "kept", "mark"),
        *("marks", "one", "ones", "others", "own", "place", "places", "say", "says", "stamp", "stamps", "tell"),
        *("tells", "told", "wanted", "what", "whole", "words"),
    }
)
"""Names that don't say what they hold (docs/glossary.md, rule 2)."""
PREPOSITIONS = frozenset({"of", "by", "in"})
"""Refused as names of functions."""
CONTRACTS = {
    "medloop/commands/execution_status.py": {"answers"},
    "medloop/definition/cost.py": {"what"},
    "medloop/documents/archive.py": {"tell"},
}
"""Fields of JSON output and methods of Python's protocols, by file."""
BEGINNING = re.compile(r"(Of|What|Whether|How|Where|Who|Whose|As|When|Why|Which)\b")


@cache
def texts() -> dict[str, str]:
    """Contents of the files that are searched, by path in the repository."""
    paths = [ROOT / name for name in SEARCHED]
    files = [file for path in paths for file in ([path] if path.is_file() else files_below(path))]
    return {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in files}


def files_below(folder: Path) -> list[Path]:
    """The text files below a folder, sorted."""
    return sorted(file for file in folder.rglob("*") if file.suffix in SUFFIXES and file.is_file())


def use_of(alternatives: str) -> re.Pattern[str]:
    """A pattern of the words, names included: `MEND` and `mend_it` are uses of "mend"."""
    return re.compile(rf"(?<![a-z])(?:{alternatives})(?![a-z])", re.IGNORECASE)


def lines_with(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, str]]:
    """Numbers and texts of the lines that a pattern matches in lower case."""
    for number in sorted({text.count("\n", 0, match.start()) for match in pattern.finditer(text.lower())}):
        yield number + 1, text.split("\n")[number]


def occurrences(alternatives: str) -> list[str]:
    """`file:line: text` of each use of the words."""
    # Without what may precede it and in lower case, a pattern is searched for ten times faster.
    rough, exact = re.compile(f"(?:{alternatives})(?![a-z])"), use_of(alternatives)
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts().items()
        if name not in LISTS
        for number, line in lines_with(rough, text)
        if exact.search(line)
    ]


@pytest.mark.parametrize("alternatives", REFUSED)
def test_the_glossarys_words_are_used(alternatives: str) -> None:
    """A banned word fails with its place and the word to write."""
    assert occurrences(alternatives) == [], f"write: {REFUSED[alternatives]} (docs/glossary.md)"


def test_a_banned_word_is_found_in_a_name() -> None:
    """The pattern looks into names, and not into longer words."""
    assert use_of("mend").search("def MEND_it")
    assert not use_of("mend").search("amendment")


def docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Names and docstrings of a file's module, classes, functions and methods."""
    for node in nodes(path):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield getattr(node, "name", "module"), ast.get_docstring(node) or ""


def test_docstrings_begin_with_a_verb_or_a_noun() -> None:
    """A docstring that begins with "Of", "What" or "Whether" leaves out its noun or its verb."""
    refused = [
        f"{path.relative_to(ROOT)} {name}: {text.splitlines()[0]}"
        for path in python_files(*PRODUCT)
        for name, text in docstrings(path)
        if BEGINNING.match(text)
    ]
    assert refused == [], "write a noun phrase, an imperative, or True if ... (docs/glossary.md, rule 3)"


def names(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """Line and name of everything that a file names: variables, parameters, attributes, functions and classes."""
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, f"{name}()" if name.strip("_") in PREPOSITIONS else name


def is_vague(name: str) -> bool:
    """True if a name doesn't say what it holds; a leading underscore and the case don't matter."""
    return name.strip("_").lower() in VAGUE or name.endswith("()")


@pytest.mark.parametrize("folder", [*PRODUCT, "tests", "benchmarks"])
def test_names_say_what_they_hold(folder: str) -> None:
    """A vague name fails with its file and line."""
    vague = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in python_files(folder)
        for line, name in names(nodes(path))
        if is_vague(name) and name not in CONTRACTS.get(path.relative_to(ROOT).as_posix(), ())
    ]
    assert vague == [], "name the rows, the problems, the endpoint, the response (docs/glossary.md, rule 2)"


@pytest.mark.parametrize(
    "code", ["found = 1", "_KEPT = 1", "x.given = 1", "f(lambda own: own)", "def f(*, wanted): ...", "def _of(x): ..."]
)
def test_a_vague_name_is_noticed(code: str) -> None:
    """Variables, constants, attributes, parameters and functions; not in a longer name, not where it is read."""
    assert any(is_vague(name) for _, name in names(ast.walk(ast.parse(code))))
    assert not any(
        is_vague(name) for _, name in names(ast.walk(ast.parse("not_found = x.found; by = own_bucket(given)")))
    )


def test_the_glossary_names_files_that_exist() -> None:
    """Each term's file is there."""
    named = re.findall(
        r"`((?:medloop|steps|pipelines|infra|containers|tests|docs)/[^` ]*)`", GLOSSARY.read_text("utf-8")
    )
    assert len(named) > 40
    assert [path for path in named if not (ROOT / path).exists()] == []
