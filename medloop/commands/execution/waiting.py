"""Wait for a started execution and report its results, or report only that it has started."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from medloop.commands.execution.progress import follow
from medloop.commands.execution.summary import ExecutionSummary, print_summary, read_summary
from medloop.commands.execution_status import execution_id
from medloop.commands.options import Call, Services, flags
from medloop.commands.output import print_json, print_line

if TYPE_CHECKING:
    from medloop.cloud.target import Target

INTERRUPTED = 130


def wait_and_report(call: Call, target: Target, arn: str, *, wait: bool) -> None:
    """Follow a started execution to its end and print its results; without `wait`, print that it has started.

    Raises:
        typer.Exit: With the summary's exit code.
    """
    if not wait:
        _print_started(call, arn)
        return
    summary = wait_for_summary(call.services, target, call.home, arn)
    if call.json:
        print_json(summary.to_json())
    else:
        print_summary(call.services.out, call.services.err, summary, call.flags)
    raise typer.Exit(summary.exit_code)


def wait_for_summary(services: Services, target: Target, home: Path, arn: str) -> ExecutionSummary:
    """Follow an execution to its end and read its results.

    Raises:
        typer.Exit: With 130, if the user interrupts; the execution continues.
    """
    identifier = execution_id(arn)
    print_line(services.err, f"execution: {arn}", "dim")
    import_module("medloop.documents.evaluation")  # while the execution starts: its results are read with it
    try:
        execution = follow(target, arn, services.err, services.sleep)
    except KeyboardInterrupt:
        print_line(services.err, f"interrupted; execution {identifier} continues. Follow, show or stop it:", "yellow")
        print_commands(services, identifier, flags(target.name, home))
        raise typer.Exit(INTERRUPTED) from None
    return read_summary(target, home, execution)


def print_commands(services: Services, identifier: str, options: str) -> None:
    """Print the commands that follow, show and stop an execution that continues."""
    for command in (f"logs {identifier} --follow", f"show {identifier}", f"stop {identifier}"):
        print_line(services.err, f"  medloop executions {command}{options}")


def _print_started(call: Call, arn: str) -> None:
    if call.json:
        print_json({"id": execution_id(arn), "arn": arn})
        return
    print_line(call.services.out, f"execution {arn} started")
    print_line(call.services.out, f"  next      medloop executions show {execution_id(arn)}{call.flags}")
