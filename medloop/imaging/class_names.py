"""Classes whose names differ in their form only: one class if they look the same, a warning if they look alike."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from medloop.documents.names import alike, tidy
from medloop.imaging.problems import Problem

_PATIENT = re.compile(r"(patient|pat|subject|subj|sub|case|pid|mrn)s?[ _.-]*\d+", re.IGNORECASE)
_MAX_NAMES = 3


def find_same_classes(folders: Iterable[tuple[str, str]]) -> list[Problem]:
    """A warning of each class folder whose name only looks like that of another one: both are one class.

    A reader sees no difference between composed and decomposed letters, or in white space and invisible characters.

    Args:
        folders: Name and path of class folders.
    """
    paths: dict[str, dict[str, str]] = defaultdict(dict)
    for name, path in folders:
        paths[tidy(name)].setdefault(name, path)
    warnings = []
    for first, *rest in (list(same.values()) for same in paths.values()):
        for path in rest:
            message = "is read as one class with {related}, whose name looks the same; give both folders one name"
            forms = f"{path!a} and {first!a} are read as one class, as their names look the same; give both one name"
            warnings.append(Problem(path, message, related=first, for_owner=forms))
    return warnings


def alike_classes(classes: Sequence[str]) -> list[Problem]:
    """A warning of each group of classes whose names differ in case, accents or punctuation only."""
    return [
        Problem("", f"classes {' and '.join(map(repr, group))} may be one; give one class one name")
        for group in alike(classes)
    ]


def doubtful_classes(classes: Sequence[str]) -> list[Problem]:
    """Warnings of classes that are alike, or that are named as patients are (`patient01`, `patient02`)."""
    warnings = alike_classes(classes)
    if len(classes) > 2 and all(map(_PATIENT.fullmatch, classes)):
        names = tuple(classes[:_MAX_NAMES])
        shown = ", ".join(f"{{{number}}}" for number in range(len(names)))
        text = f"has {len(classes)} classes with names as of patients ({shown}); if they are patients, make a folder "
        warnings.append(Problem("", f"{text}per class instead, and name the patients in patients.csv", names=names))
    return warnings


def alike_to(name: str, classes: Sequence[str]) -> str | None:
    """The first of the classes whose name differs from this one in case, accents or punctuation only."""
    return next((other for other in classes if other != name and alike([name, other])), None)
