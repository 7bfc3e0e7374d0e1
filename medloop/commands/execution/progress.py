"""The progress of an execution until it ends: a live table on a terminal, otherwise one line a change.

It only reads, so an interrupt does no harm; the execution continues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

from medloop.commands.execution.logs import BUILD_LINE, METRICS_LINE, JobLog
from medloop.commands.execution_status import Execution, ExecutionStep, read_execution
from medloop.commands.output import duration, print_line, table

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

    from medloop.cloud.target import Target

SECONDS_BETWEEN_LOOKS = {"local": 0.5, "aws": 10.0}
FIRST_PAUSES: dict[str, list[float]] = {"local": [0.1] * 20, "aws": []}
"""Seconds between the first looks: an execution here whose steps are all remembered ends within a second or two."""


@dataclass
class LineDisplay:
    """Prints one line for each change of a step's state, each epoch of a training job, and each step of a build."""

    console: Console
    _states: dict[str, str] = field(default_factory=dict)

    def update(self, execution: Execution, news: dict[str, list[str]]) -> None:
        """Print changes."""
        clock = duration(execution.seconds)
        for step in execution.steps:
            for line in news.get(step.name, []):
                if METRICS_LINE.match(line) or BUILD_LINE.match(line):
                    print_line(self.console, f"{clock:>6}  {step.name}: {line}")
            if self._states.get(step.name) != (now := f"{step.status} {step.reason}"):
                self._states[step.name] = now
                print_line(self.console, f"{clock:>6}  {step.name}: {_state(step)}")


class LiveDisplay:
    """Shows a table of the steps that is updated in place."""

    def __init__(self, console: Console) -> None:
        """Draw on this console."""
        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._last: dict[str, str] = {}

    def update(self, execution: Execution, news: dict[str, list[str]]) -> None:
        """Draw the table."""
        for name, lines in news.items():
            self._last[name] = _most_telling(lines) or self._last.get(name, "")
        rows = [
            (s.name, s.status, duration(s.seconds), "" if not _live(s) else self._last.get(s.name, ""))
            for s in execution.steps
        ]
        made = table(("step", "state", "time", "last said"), rows)
        made.columns[-1].no_wrap, made.columns[-1].overflow = True, "ellipsis"
        self._live.update(made, refresh=True)

    def __enter__(self) -> LiveDisplay:
        """Take over the last lines of the screen."""
        self._live.start()
        self._live.update(Text("starting ..."), refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the screen back."""
        self._live.stop()


def follow(target: Target, arn: str, console: Console, sleep: Callable[[float], None]) -> Execution:
    """Show an execution's progress on the console until it ends; `sleep` waits between two reads."""
    sagemaker, reader = target.boto.client("sagemaker"), LogReader(target.boto.client("logs"))
    with LiveDisplay(console) if console.is_terminal else nullcontext(LineDisplay(console)) as display:
        pauses = chain(FIRST_PAUSES[target.name], repeat(SECONDS_BETWEEN_LOOKS[target.name]))
        execution = None
        while True:
            execution = read_execution(sagemaker, arn, execution)
            display.update(execution, reader.news(execution.steps))
            if not execution.running:
                return execution
            sleep(next(pauses))


class LogReader:
    """Reads new lines of the logs of an execution's jobs."""

    def __init__(self, client: CloudWatchLogsClient) -> None:
        """Read through this `logs` client."""
        self._client = client
        self._logs: dict[str, JobLog] = {}
        self._finished: set[str] = set()

    def news(self, steps: Iterable[ExecutionStep]) -> dict[str, list[str]]:
        """Read new log lines by step name; the log of an ended job is read once more, then skipped."""
        result = {}
        for step in steps:
            if step.job is None or step.source or step.job.name in self._finished:
                continue
            log = self._logs.setdefault(step.job.name, JobLog(self._client, step.job))
            result[step.name] = list(log.new_lines())
            if not _live(step):
                self._finished.add(step.job.name)
        return result


def _live(step: ExecutionStep) -> bool:
    return step.status in ("Starting", "Executing", "Stopping")


def _state(step: ExecutionStep) -> str:
    text = step.status
    if step.origin:
        text += f", {step.origin}"
    if step.attempts > 1:
        text += f", attempt {step.attempts}"
    if step.outcome:
        text += f", the condition is {step.outcome.lower()}"
    if not _live(step):
        text += f" after {duration(step.seconds)}"
    return f"{text}: {step.reason}" if step.reason else text


def _most_telling(lines: list[str]) -> str:
    """Return the last epoch's metrics, or else the last line that is not empty."""
    metrics = [line for line in lines if METRICS_LINE.match(line)]
    spoken = metrics or [line for line in lines if line.strip()]
    return spoken[-1].strip() if spoken else ""
