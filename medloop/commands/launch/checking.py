"""Checks of a data set before anything runs, by the split job's validator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from medloop.commands.options import Services
from medloop.commands.output import print_error, print_line
from medloop.commands.samples import progress_bar
from medloop.errors import DataError, printable

if TYPE_CHECKING:
    from medloop.documents.split_rule import SplitRule
    from medloop.imaging.checked_cases import Memory
    from medloop.imaging.problems import Problem
    from medloop.imaging.split_plan import LaterSteps
    from medloop.imaging.validation import DatasetReport


def check(
    services: Services,
    folder: Path,
    task: str,
    labels: Sequence[str] | None = None,
    rule: SplitRule | None = None,
    later: LaterSteps | None = None,
    *,
    remember: bool = False,
) -> DatasetReport:
    """Check every file of a data set, with progress, and what the later steps need of its split.

    Args:
        services: For the progress bar.
        folder: The data set's.
        task: The data set's.
        labels: Segmentation: names by label value.
        rule: The rule of the split; None if an earlier split decides, which is not known here.
        later: Settings of training and evaluation; None for the default ones.
        remember: Don't read files that are unchanged since an earlier check that remembered them.

    Raises:
        DataError: The folder is not a data set of this task.
    """
    from medloop.imaging.split_plan import plan_split
    from medloop.imaging.validation import check_dataset

    memory = _memory(folder, task, labels) if remember else None
    with progress_bar(services.err, "files checked") as progress:
        report = check_dataset(folder, cast(Any, task), labels=labels, progress=progress, memory=memory)
    if rule is not None:
        plan = plan_split(report, rule, report.patients, later=later)
        report.problems += plan.problems
        report.warnings += plan.warnings
        report.split_of = plan.split_of
    return report


def _memory(folder: Path, task: str, labels: Sequence[str] | None) -> Memory | None:
    from medloop.commands.launch.remembered_checks import open_remembered

    return open_remembered(folder, cast(Any, task), labels)


def infer_task(folder: Path) -> str:
    """The task for which a data set is laid out.

    Raises:
        DataError: The folder is missing, or fits both tasks or none.
    """
    from medloop.imaging.layouts import infer_tasks

    tasks = infer_tasks(folder)
    if len(tasks) == 1:
        return tasks[0]
    fits = "fits both tasks" if tasks else "fits no task: images in class folders, or subjects with img and label"
    raise DataError(f"{printable(str(folder))}: {fits}; choose with --task classification or --task segmentation")


def print_problems(services: Services, folder: Path, problems: Iterable[Problem]) -> None:
    """Print each problem, or kind of problem, in one line, on stderr."""
    from medloop.imaging.problems import group_by_kind

    for problem in group_by_kind(problems):
        print_error(services.err, problem_line(folder, problem))


def print_warnings(services: Services, folder: Path, warnings: Iterable[Problem]) -> None:
    """Print each warning, or kind of warning, in one line, on stderr."""
    from medloop.imaging.problems import group_by_kind

    for warning in group_by_kind(warnings):
        print_line(services.err, f"warning: {problem_line(folder, warning)}", "yellow")


def problem_line(folder: Path, problem: Problem) -> str:
    """Return a problem as one line; a problem of the whole data set names its folder."""
    return problem.line if problem.path else printable(f"{folder}: {problem.owner_reason(str(folder))}")
