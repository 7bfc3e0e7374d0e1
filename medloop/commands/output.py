"""Output of the command line: results on stdout, progress and errors on stderr.

`--json` prints one JSON document on stdout and nothing else there. Where stdout is no terminal, lines are never wrapped
and nothing is cut, so that an ARN survives a pipe. All text passes `printable`: the only consoles are made here.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from medloop.errors import printable

if TYPE_CHECKING:
    from rich.table import Table

UNWRAPPED_WIDTH = 8192
STATUS_STYLES = {
    "Succeeded": "green",
    "Completed": "green",
    "Approved": "green",
    "Failed": "red",
    "Rejected": "red",
    "Stopped": "yellow",
    "Stopping": "yellow",
    "Executing": "cyan",
}


class _PrintableConsole(Console):
    """A console that escapes control characters of any text; rich's own control codes are segments of another type."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Render to segments."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text, allowed="\n"), style, control)


def make_console(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr that neither wraps nor cuts where the stream is no terminal.

    Characters that the stream's encoding lacks are written as escapes.
    """
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    console = _PrintableConsole(stderr=stderr, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = UNWRAPPED_WIDTH
    return console


def print_json(document: Any) -> None:
    """Print one JSON document on stdout; dates as ISO 8601, dataclasses as objects.

    What a terminal would obey is escaped as JSON escapes it, so that the document stays the same.
    """
    unicode = "utf" in (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    text = json.dumps(document, indent=2, ensure_ascii=not unicode, default=_encode)
    if printable(text, allowed="\n") != text:
        text = "".join(sign if printable(sign, allowed="\n") == sign else json.dumps(sign)[1:-1] for sign in text)
    sys.stdout.write(text + "\n")


def _encode(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def print_line(console: Console, message: str, style: str = "") -> None:
    """Print one line as it is: brackets in a path are no markup."""
    console.print(Text(printable(message), style=style))


def print_error(console: Console, message: str) -> None:
    """Print `error: MESSAGE`, the first word red on a terminal."""
    console.print(Text.assemble(("error: ", "bold red"), printable(message)))


def print_table(console: Console, headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; into a pipe without the spaces that would fill the last column."""
    made = table(headers, rows)
    if console.is_terminal:
        console.print(made)
        return
    with console.capture() as capture:
        console.print(made)
    for line in capture.get().splitlines():
        print_line(console, line.rstrip())


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A plain table: no lines, no cut cells; states in their colours."""
    from rich.table import Table

    shown_header = any(headers)
    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=shown_header)
    for header in headers:
        result.add_column(Text(printable(header)), overflow="fold")
    for row in rows:
        result.add_row(*(_cell(value) for value in row))
    return result


def _cell(value: object) -> Text:
    text = printable(shown(value))
    return Text(text, style=STATUS_STYLES.get(text, ""))


def shown(value: object) -> str:
    """A value as a table shows it: a dash for nothing, local time, four decimals or digits."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) >= 0.1 else f"{value:.4g}"
    return str(value)


def duration(seconds: float | None) -> str:
    """Seconds as `1:02:03` or `2:03`; a dash for nothing."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
