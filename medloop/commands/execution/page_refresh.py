"""The page of an execution, written once, or updated until the execution ends.

Updates only read, and write the page, so an interrupt does no harm: the page then says that it is no longer updated,
and the execution continues.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medloop.commands.execution.execution_page import render
from medloop.commands.execution.page_view import View, ViewReader
from medloop.commands.pages import write_page

SECONDS_BETWEEN_PAGES = {"local": 3.0, "aws": 15.0}


@dataclass(frozen=True)
class Page:
    """The page and its updates.

    Args:
        reader: Reads the execution.
        path: The page's file.
        flags: Options with which another command reads the same target and home.
        every: Seconds between two updates.
    """

    reader: ViewReader
    path: Path
    flags: str
    every: float

    def draw(self, *, follow: bool) -> View:
        """Write the page once; with `follow`, it reloads itself until the execution ends."""
        view = self.reader.read()
        self._write(view, self.every if follow and view.execution.running else None)
        return view

    def follow(self, view: View, sleep: Callable[[float], None]) -> View:
        """Update the page until the execution ends, or until an interrupt; the last page doesn't reload.

        Args:
            view: The view that `draw` returned.
            sleep: Waits between two updates.

        Returns:
            The view of the ended execution.
        """
        try:
            while view.execution.running:
                sleep(self.every)
                view = self.reader.read()
                if view.execution.running:
                    self._write(view, self.every)
        finally:
            self._write(view, 0.0)
        return view

    def _write(self, view: View, every: float | None) -> None:
        write_page(self.path, render(view, self.flags, every))
