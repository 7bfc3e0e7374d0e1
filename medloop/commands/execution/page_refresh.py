"""The page of an execution, drawn once, or drawn anew until the execution ends.

Following only reads and writes the page, so it may be interrupted without harm: the page then says that nothing keeps
it fresh, and the execution goes on.
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
    """A page on its way.

    Args:
        reader: Reads what it shows.
        path: Where it lies.
        flags: Options that lead a further command to the same place.
        every: Seconds between two drawings.
    """

    reader: ViewReader
    path: Path
    flags: str
    every: float

    def draw(self, *, follow: bool) -> View:
        """Write the page as the execution is now; one that is followed loads itself again until the execution ends."""
        view = self.reader.read()
        self._write(view, self.every if follow and view.execution.running else None)
        return view

    def follow(self, view: View, sleep: Callable[[float], None]) -> View:
        """Draw the page again and again until the execution ends, whatever else ends this: the last one stands still.

        Args:
            view: As `draw` returned it.
            sleep: Waits between two drawings.

        Returns:
            The execution as it ended.
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
