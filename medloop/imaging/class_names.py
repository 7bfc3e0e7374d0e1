"""Classes whose names differ in their form only: one class if they look the same, a warning if they look alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from medloop.documents.names import alike, tidy
from medloop.imaging.problems import Problem

if TYPE_CHECKING:
    from medloop.imaging.layouts import RawCase


def unite_classes(cases: Sequence[RawCase]) -> tuple[list[RawCase], list[Problem]]:
    """Group images by their class folder's name as a reader sees it; warn if folders of several names are one class.

    A reader sees no difference between composed and decomposed letters, or in white space and invisible characters.
    """
    folders: dict[str, dict[str, str]] = defaultdict(dict)
    for case in cases:
        folders[tidy(case.group)].setdefault(case.group, case.path.rpartition("/")[0])
    warnings = []
    for paths in folders.values():
        first, *others = paths.values()
        for path in others:
            message = "is read as one class with {related}, whose name looks the same; give both folders one name"
            forms = f"{path!a} and {first!a} are read as one class, as their names look the same; give both one name"
            warnings.append(Problem(path, message, related=first, for_owner=forms))
    return [replace(case, group=tidy(case.group)) for case in cases], warnings


def alike_classes(classes: Sequence[str]) -> list[Problem]:
    """A warning of each group of classes whose names differ in case, accents or punctuation only."""
    return [
        Problem("", f"classes {' and '.join(map(repr, group))} may be one; give one class one name")
        for group in alike(classes)
    ]


def alike_to(name: str, classes: Sequence[str]) -> str | None:
    """The first of the classes whose name differs from this one in case, accents or punctuation only."""
    return next((other for other in classes if other != name and alike([name, other])), None)
