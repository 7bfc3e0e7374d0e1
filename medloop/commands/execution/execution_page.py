"""An execution as one self-contained HTML page: why it failed, graph, steps, curves, tuning, cost, ends of logs.

All text from logs, names and reasons is escaped. The page loads nothing and runs only the script that reloads it while
a command updates it; the content security policy in its head allows only that script, by its digest.

Updates only read, and write the page, so an interrupt does no harm: the page then says that it is no longer updated,
and the execution continues.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from medloop.commands.evaluations import score_basis
from medloop.commands.execution.graph_svg import Look, draw_graph
from medloop.commands.execution.page_view import MAX_LINES, View, ViewReader
from medloop.commands.execution.redaction import redact_setting
from medloop.commands.execution.trials import trial_rows
from medloop.commands.execution_status import ExecutionStep
from medloop.commands.output import duration, shown
from medloop.commands.pages import templates, write_page

FOLDER = "medloop.commands.execution"
TEMPLATE, SCRIPT = "execution.html.jinja", "reload.js.jinja"

SECONDS_BETWEEN_PAGES = {"local": 3.0, "aws": 15.0}


@dataclass(frozen=True)
class ExecutionPage:
    """An execution's page, updated `every` so many seconds; with `flags`, other commands find the same place."""

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
        """Update the page that `draw` wrote until the execution ends, or an interrupt; return the last view.

        The last page doesn't reload.
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


def render(view: View, flags: str, every: float | None = None) -> str:
    """Draw the page.

    Args:
        view: The execution.
        flags: Options with which another command reads the same target and home.
        every: Seconds after which the page reloads itself; 0 for the last page, which only restores the scroll
            position; None for a page without updates, which runs no script.

    Returns:
        HTML.
    """
    environment = templates(FOLDER, duration=duration, shown=shown, slug=slug, moment=_moment, score_basis=score_basis)
    script = environment.get_template(SCRIPT).render() if every is not None else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(TEMPLATE).render(
        view=view,
        execution=view.execution,
        graphs=_graphs(view),
        parameters=[(name, redact_setting(name, value)) for name, value in sorted(view.execution.parameters.items())],
        trial_rows=trial_rows,
        max_lines=MAX_LINES,
        flags=flags,
        every=every,
        script=script,
        script_source=f"script-src 'sha256-{digest}'; " if script else "",
    )


def slug(name: str) -> str:
    """Return a name as an anchor of the page."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)


def _moment(when: datetime) -> str:
    return when.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _graphs(view: View) -> list[str]:
    """Draw the graph for wide and for narrow pages."""
    looks = {step.name: Look(step.status, _below(step), f"step-{slug(step.name)}") for step in view.execution.steps}
    return [draw_graph(view.definition, looks, upright=upright) for upright in (False, True)]


def _below(step: ExecutionStep) -> str:
    if step.cached:
        return "from the cache"
    if step.source:
        return "not selected"
    if step.outcome:
        return f"condition: {step.outcome.lower()}"
    return f"{step.status} {duration(step.seconds)}" if step.seconds is not None else step.status
