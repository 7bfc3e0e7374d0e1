"""Parts of the page: figures, drawn cases, the viewer, and the sections that only one task has."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medloop.evaluation.csv_table import CsvTable
from medloop.evaluation.report.embedded_volumes import Embedded


@dataclass(frozen=True)
class Figure:
    """A figure, as a data URI."""

    source: str
    text: str
    """Describes the figure in words (the alt text)."""
    caption: str = ""
    small: bool = False
    """One of many, side by side."""
    wide: bool = False
    """Its plots are side by side: a narrow screen scrolls it."""

    def write(self, path: Path) -> Path:
        """Write the figure's picture as a file; returns its path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.source.partition(",")[2]))
        return path


@dataclass(frozen=True)
class Drawn:
    """Figures of cases under a title."""

    title: str
    text: str = ""
    figures: Sequence[Figure] = ()


@dataclass(frozen=True)
class Viewer:
    """Volumes to look through, and the structures in them."""

    legend: Sequence[dict[str, str]]
    volumes: Sequence[Embedded]
    remark: str
    """Names the cases that are there, and the reason if some are not."""


@dataclass(frozen=True)
class TaskPart:
    """The sections that only one task has."""

    curves: Sequence[Figure]
    tables: Sequence[tuple[str, CsvTable]]
    """Heading and table."""
    drawn_title: str
    drawn: Sequence[Drawn]
    cases: CsvTable
    """All of them, the worst first."""
    viewer: Viewer | None = None
