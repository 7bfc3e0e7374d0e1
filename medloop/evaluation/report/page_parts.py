"""What the page is put together from: tables, pictures, and a task's own part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medloop.evaluation.csv_table import Table
from medloop.evaluation.report.embedded_volumes import Embedded


@dataclass(frozen=True)
class Figure:
    """A picture, as a data URI."""

    source: str
    text: str
    """Says in words what is to be seen."""
    caption: str = ""
    small: bool = False
    """One of many, side by side."""
    wide: bool = False
    """Pictures within it are side by side: a narrow screen scrolls it."""


@dataclass(frozen=True)
class Drawn:
    """Cases that are shown, and what they show."""

    title: str
    text: str = ""
    figures: Sequence[Figure] = ()


@dataclass(frozen=True)
class Viewer:
    """Volumes to look through, and the structures in them."""

    legend: Sequence[dict[str, str]]
    volumes: Sequence[Embedded]
    remark: str
    """Which cases are there, which are not, and why."""


@dataclass(frozen=True)
class TaskPart:
    """What one task shows and the other doesn't."""

    curves: Sequence[Figure]
    tables: Sequence[tuple[str, Table]]
    """Heading and table."""
    drawn_title: str
    drawn: Sequence[Drawn]
    cases: Table
    """All of them, the worst first."""
    viewer: Viewer | None = None
