"""From a started execution to what it left behind: followed, or only told of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from medloop.commands.execution.progress import follow
from medloop.commands.execution.summary import ExecutionSummary, print_summary, read_summary
from medloop.commands.execution_status import execution_id
from medloop.commands.options import Services, flags
from medloop.commands.output import print_json, say

if TYPE_CHECKING:
    from medloop.cloud.target import Target

INTERRUPTED = 130


def wait_and_report(services: Services, target: Target, home: Path, arn: str, *, wait: bool, json: bool) -> None:
    """Follow a started execution to its end and print what it left behind, or only say that it runs.

    Raises:
        typer.Exit: With the code that the summary stands for.
    """
    if not wait:
        _print_started(services, arn, flags(target.name, home), json=json)
        return
    summary = wait_for_summary(services, target, home, arn)
    if json:
        print_json(summary.to_json())
    else:
        print_summary(services.out, services.err, summary, flags(target.name, home))
    raise typer.Exit(summary.exit_code)


def wait_for_summary(services: Services, target: Target, home: Path, arn: str) -> ExecutionSummary:
    """Follow an execution and read what it left behind.

    Raises:
        typer.Exit: With 130, where the user interrupted; the execution goes on.
    """
    identifier = execution_id(arn)
    say(services.err, f"execution: {arn}", "dim")
    try:
        execution = follow(target, arn, services.err, services.sleep)
    except KeyboardInterrupt:
        say(services.err, f"interrupted; execution {identifier} goes on. Follow it, look at it, or stop it:", "yellow")
        for command in (f"logs {identifier} --follow", f"show {identifier}", f"stop {identifier}"):
            say(services.err, f"  medloop executions {command}{flags(target.name, home)}")
        raise typer.Exit(INTERRUPTED) from None
    return read_summary(target, home, execution)


def _print_started(services: Services, arn: str, flags: str, *, json: bool) -> None:
    if json:
        print_json({"id": execution_id(arn), "arn": arn})
        return
    say(services.out, f"execution {arn} started")
    say(services.out, f"  next      medloop executions show {execution_id(arn)}{flags}")
