"""What the page is put together from: sections of text, tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medloop.evaluation.outcome import Table


@dataclass(frozen=True)
class Figure:
    """A picture, as a data URI."""

    source: str
    text: str
    """Says in words what is to be seen."""
    caption: str = ""
    small: bool = False
    """One of many, side by side."""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
