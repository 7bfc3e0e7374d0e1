"""`medloop executions`: the executions of pipelines, their progress, and why they ended."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer
from rich.console import Console

from medloop.commands.execution.progress import LogReader
from medloop.commands.execution.trials import TuningTrials, read_tunings, trial_rows
from medloop.commands.execution.waiting import INTERRUPTED, wait_and_report
from medloop.commands.execution_status import (
    Execution,
    ExecutionStep,
    execution_id,
    find_execution,
    list_executions,
    read_execution,
)
from medloop.commands.options import Call, Services, WaitOption, on_target
from medloop.commands.output import duration, print_json, print_line, print_table
from medloop.commands.pages import BrowserOption, OutOption, browse, page_path
from medloop.errors import UserError
from medloop.local.state.home import Home

if TYPE_CHECKING:
    from medloop.commands.execution.execution_page import ExecutionPage
    from medloop.commands.execution.page_view import View

app = typer.Typer(no_args_is_help=True, help="Executions of pipelines.")
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="ARN, id, its unique beginning, or `latest`.")]
SECONDS_BETWEEN_READS = 1.0


@app.command("list")
@on_target
def list_(
    name: Annotated[str | None, typer.Argument(help="Only this pipeline's executions.")] = None,
    *,
    call: Call,
) -> None:
    """List executions, newest first."""
    sagemaker = call.sagemaker()
    rows = [
        {
            "id": execution_id(s["PipelineExecutionArn"]),
            "pipeline": s["PipelineName"],
            "status": s["PipelineExecutionStatus"],
            "started": s["StartTime"],
            "reason": s.get("PipelineExecutionFailureReason", ""),
            "arn": s["PipelineExecutionArn"],
        }
        for s in list_executions(sagemaker, name)
    ]
    if call.json:
        print_json(rows)
        return
    if not rows:
        suffix = f" of pipeline {name!r}" if name else ""
        print_line(call.services.err, f"no executions{suffix} yet; start one with `medloop run`, or see `medloop demo`")
        return
    shown = [[row[key] for key in ("id", "pipeline", "status", "started", "reason")] for row in rows]
    print_table(call.services.out, ("id", "pipeline", "status", "started", "reason"), shown)


@app.command()
@on_target
def show(execution: IdArgument, call: Call) -> None:
    """Show an execution: parameters, steps, jobs, and why it failed."""
    sagemaker = call.sagemaker()
    snapshot = read_execution(sagemaker, find_execution(sagemaker, execution))
    tunings = read_tunings(sagemaker, snapshot)
    if call.json:
        print_json({**asdict(snapshot), "tunings": tunings})
        return
    _show(call.services.out, snapshot)
    for tuning in tunings:
        _show_trials(call.services.out, tuning)


def _show(out: Console, execution: Execution) -> None:
    facts: list[tuple[str, object]] = [
        ("execution", execution.arn),
        ("pipeline", execution.pipeline),
        ("status", execution.status),
        ("started", execution.started),
        ("ended", execution.ended),
        ("took", duration(execution.seconds)),
        *([("reason", execution.reason)] if execution.reason else []),
        *((f"{name}", value) for name, value in sorted(execution.parameters.items())),
    ]
    print_table(out, ("", ""), facts)
    print_line(out, "")
    rows = [
        (s.name, s.status, duration(s.seconds), s.job.name if s.job else s.registered, s.remark(s.reason))
        for s in execution.steps
    ]
    print_table(out, ("step", "state", "time", "job or version", "remark"), rows)


def _show_trials(out: Console, tuning: TuningTrials) -> None:
    goal = "maximise" if tuning.maximise else "minimise"
    print_line(out, "")
    print_line(out, f"{tuning.step}: {tuning.strategy} tuning job {tuning.job}, {goal} {tuning.metric}")
    headers = ("trial", "state", "hyperparameters", tuning.metric, "time", "remark")
    print_table(out, headers, trial_rows(tuning))


@app.command("open")
@on_target
def open_(
    execution: IdArgument,
    follow: Annotated[
        bool | None,
        typer.Option(
            "--follow/--no-follow", "-f", help="Update the page until the execution ends; by default on a terminal."
        ),
    ] = None,
    out: OutOption = None,
    browser: BrowserOption = True,
    *,
    call: Call,
) -> None:
    """Draw an execution as one HTML page: why it failed, graph, inputs and outputs, metrics, tuning, cost, logs."""
    from medloop.commands.execution.execution_page import SECONDS_BETWEEN_PAGES, ExecutionPage
    from medloop.commands.execution.page_view import ViewReader

    target, shown_on = call.open(), call.services.out
    arn = find_execution(target.boto.client("sagemaker"), execution)
    follow = shown_on.is_terminal if follow is None else follow
    path = page_path(Home.find(call.home), execution_id(arn), out)
    page = ExecutionPage(ViewReader(target, call.home, arn), path, call.flags, SECONDS_BETWEEN_PAGES[target.name])
    view = page.draw(follow=follow)
    if call.json:
        print_json({"id": view.execution.id, "arn": arn, "page": path})
    else:
        print_line(shown_on, str(path))
    if browser:
        browse(call.services, path)
    if follow and view.execution.running:
        _keep_fresh(call.services, page, view)


def _keep_fresh(services: Services, page: ExecutionPage, view: View) -> None:
    """Update the page until the execution ends.

    Raises:
        typer.Exit: With 130, if the user interrupts; the execution continues.
    """
    identifier = view.execution.id
    print_line(services.err, "the page updates itself until the execution ends; Ctrl-C stops only the updates", "dim")
    try:
        view = page.follow(view, services.sleep)
    except KeyboardInterrupt:
        text = f"interrupted; execution {identifier} continues, and the page is no longer updated"
        print_line(services.err, text, "yellow")
        print_line(services.err, f"  medloop executions open {identifier}{page.flags}")
        raise typer.Exit(INTERRUPTED) from None
    print_line(services.err, f"execution {identifier} {view.execution.status} after {duration(view.execution.seconds)}")


@app.command()
@on_target
def logs(
    execution: IdArgument,
    step: Annotated[str | None, typer.Argument(help="Only this step's job.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue until the execution ends.")] = False,
    *,
    call: Call,
) -> None:
    """Print the logs of an execution's jobs; as JSON, the lines by step."""
    boto = call.open().boto
    sagemaker, reader = boto.client("sagemaker"), LogReader(boto.client("logs"))
    arn = find_execution(sagemaker, execution)
    heading, collected = "", dict[str, list[str]]()
    while True:
        snapshot = read_execution(sagemaker, arn)
        for name, lines in reader.news(_steps_with_logs(snapshot, step, follow)).items():
            if call.json:
                collected.setdefault(name, []).extend(lines)
            else:
                heading = _print_lines(call.services.out, heading, "" if step else name, lines)
        if not (follow and snapshot.running):
            break
        call.services.sleep(SECONDS_BETWEEN_READS)
    if call.json:
        print_json(collected)


def _print_lines(out: Console, heading: str, name: str, lines: list[str]) -> str:
    """Print lines under their step's name; return the current heading."""
    if lines and name != heading:
        print_line(out, f"== {name} ==", "bold")
    for line in lines:
        print_line(out, line)
    return name if lines else heading


def _steps_with_logs(execution: Execution, step: str | None, follow: bool) -> list[ExecutionStep]:
    """Return the steps with logs to print.

    Raises:
        UserError: The execution has no such step, or that step has no job of its own.
    """
    if step is None:
        return execution.steps
    chosen = execution.step(step)
    if chosen is None:
        if follow and execution.running:
            return []  # not begun yet
        names = ", ".join(s.name for s in execution.steps)
        raise UserError(f"execution {execution.id} has no step {step!r}; it has: {names}")
    if chosen.job is None and not (follow and execution.running):
        raise UserError(f"step {chosen.name} of execution {execution.id} runs no job, so it has no log")
    if chosen.source:
        raise UserError(
            f"step {chosen.name} of execution {execution.id} ran no job ({chosen.origin}); "
            f"see: medloop executions logs {chosen.source} {chosen.name}"
        )
    return [chosen]


@app.command()
@on_target
def stop(execution: IdArgument, call: Call) -> None:
    """Stop a running execution and its jobs."""
    sagemaker = call.sagemaker()
    arn = find_execution(sagemaker, execution)
    sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=str(uuid4()))
    if call.json:
        print_json({"id": execution_id(arn), "arn": arn})
        return
    identifier = execution_id(arn)
    print_line(call.services.out, f"stopping {identifier}; see: medloop executions show {identifier}{call.flags}")


@app.command()
@on_target
def retry(execution: IdArgument, *, call: Call, wait: WaitOption = True) -> None:
    """Resume an execution that failed, was stopped, or lost its engine; steps that succeeded are not run again."""
    target = call.open()
    sagemaker = target.boto.client("sagemaker")
    arn = find_execution(sagemaker, execution)
    sagemaker.retry_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=str(uuid4()))
    wait_and_report(call, target, arn, wait=wait)
