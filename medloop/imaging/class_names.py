"""Classes whose names differ in their form only: one class if they look the same, a warning if they look alike."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from medloop.documents.names import alike, normalise, tidy
from medloop.imaging.problems import Problem

_PATIENT = re.compile(r"(patient|pat|subject|subj|sub|case|pid|mrn)s?[ _.-]*\d+", re.IGNORECASE)
_SPLIT_WORD = "train|training|val|valid|validation|test|testing"
_SPLIT = re.compile(rf"(({_SPLIT_WORD})[ _.-]+)?(?P<name>.+?)([ _.-]+({_SPLIT_WORD}))?", re.IGNORECASE)
_PART = re.compile(
    r"(.*[ _.-])?(part|fold|images?|imgs?|batch|chunk|set|folder|dir|disk|vol|archive)s?[ _.-]*\d+", re.I
)
_BACKGROUND = frozenset({"background", "bg", "bkg", "hintergrund", "fond", "fondo"})
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
    """Warnings of classes that are alike, or that are named as patients, splits or parts of a download are."""
    warnings = [*alike_classes(classes), *_classes_in_splits(classes)]
    if len(classes) > 1 and all(map(_PART.fullmatch, classes)):
        warnings.append(_warn_of_names(classes, "parts of one download", "parts", "make a folder per class instead"))
    if len(classes) > 2 and all(map(_PATIENT.fullmatch, classes)):
        fix = "make a folder per class instead, and name the patients in patients.csv"
        warnings.append(_warn_of_names(classes, "patients", "patients", fix))
    return warnings


def _warn_of_names(classes: Sequence[str], things: str, noun: str, fix: str) -> Problem:
    names = tuple(classes[:_MAX_NAMES])
    shown = ", ".join(f"{{{number}}}" for number in range(len(names)))
    text = f"has {len(classes)} classes with names as of {things} ({shown}); if they are {noun}, {fix}"
    return Problem("", text, names=names)


def _classes_in_splits(classes: Sequence[str]) -> list[Problem]:
    """A warning of each group of classes that differ in the name of a split (`cyst_train`, `cyst_test`)."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        if match := _SPLIT.fullmatch(name):
            groups[match["name"]].append(name)
    return [
        Problem(
            "",
            f"classes {' and '.join(map(repr, group[:_MAX_NAMES]))} may be one class in several splits; if they are, "
            f"move their images to train/{name}, val/{name} and test/{name}",
        )
        for name, group in groups.items()
        if len(group) > 1
    ]


def misplaced_background(labels: Sequence[str]) -> list[Problem]:
    """A warning if not the first of a segmentation's label names is that of the background."""
    positions = [value for value, name in enumerate(labels) if normalise(name).casefold() in _BACKGROUND]
    if not positions or 0 in positions:
        return []
    value = positions[0]
    text = f"label value {value} is named {labels[value]!r}, and value 0 is the background; give the names by label "
    return [Problem("", f"{text}value, the background first")]


def alike_to(name: str, classes: Sequence[str]) -> str | None:
    """The first of the classes whose name differs from this one in case, accents or punctuation only."""
    return next((other for other in classes if other != name and alike([name, other])), None)
