"""Checks of a data set before anything runs, by the split job's validator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from medloop.commands.options import Services
from medloop.commands.output import print_error, print_line
from medloop.commands.samples import progress_bar

if TYPE_CHECKING:
    from medloop.imaging.problems import Problem
    from medloop.imaging.validation import DatasetReport


def check(services: Services, folder: Path, task: str, labels: Sequence[str] | None = None) -> DatasetReport:
    """Check every file of a data set, with progress.

    Raises:
        DataError: The folder is not a data set of this task.
    """
    from medloop.imaging.validation import check_dataset

    with progress_bar(services.err, "files checked") as progress:
        return check_dataset(folder, cast(Any, task), labels=labels, progress=progress)


def print_problems(services: Services, folder: Path, problems: Iterable[Problem]) -> None:
    """Print each problem in one line, on stderr."""
    for problem in problems:
        print_error(services.err, problem_line(folder, problem))


def print_warnings(services: Services, folder: Path, warnings: Iterable[Problem]) -> None:
    """Print each warning in one line, on stderr."""
    for warning in warnings:
        print_line(services.err, f"warning: {problem_line(folder, warning)}", "yellow")


def problem_line(folder: Path, problem: Problem) -> str:
    """Return a problem as one line; a problem of the whole data set names its folder."""
    return problem.line if problem.path else f"{folder}: {problem.owner_reason}"
