"""`medloop run`: run a pipeline on a data set and follow it to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from medloop.commands.completion import pipeline_names
from medloop.commands.execution.waiting import wait_and_report
from medloop.commands.launch.data_defaults import data_defaults
from medloop.commands.launch.launching import CheckedData, RunRequest, check_data, select, start
from medloop.commands.options import (
    BudgetOption,
    Call,
    ParamOption,
    PresetOption,
    ProjectOption,
    RuntimeOption,
    SetOption,
    TargetChoice,
    WaitOption,
    YesOption,
    choose_runtime,
    on_target,
)
from medloop.definition.read import read_definition
from medloop.errors import DataError

if TYPE_CHECKING:
    from medloop.settings import DataDefaults

OnlyOption = Annotated[
    list[str] | None, typer.Option("--only", metavar="STEP", help="Run only this step (repeatable).")
]
FromOption = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="ID", help="With --only: the execution from which the other steps' results are taken."
    ),
]


@on_target
def run(
    name: Annotated[str, typer.Argument(help="Pipeline's name (`pipelines list`).", autocompletion=pipeline_names)],
    data: Annotated[str, typer.Option(metavar="DIR|S3", help="The data set: a folder, or s3://bucket/prefix.")],
    preset: PresetOption = None,
    project: ProjectOption = None,
    sets: SetOption = None,
    params: ParamOption = None,
    *,
    call: Call,
    wait: WaitOption = True,
    only: OnlyOption = None,
    source: FromOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; change nothing.")] = False,
    budget: BudgetOption = None,
    yes: YesOption = False,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Check the data set first.")] = True,
    runtime: RuntimeOption = None,
) -> None:
    """Run a pipeline on a data set, and follow it to its end."""
    from medloop.settings import resolve

    if runtime is not None:
        choose_runtime(call, runtime.value)
    if not data.strip():  # an empty path would be the current folder
        raise DataError("--data is empty; give the data set's folder, or s3://bucket/prefix")
    defaults = _defaults(call, data, dry_run=dry_run)
    resolved = resolve(name, preset, sets or (), params or (), project=project, data=defaults)
    run_request = RunRequest(resolved, data, call.home)
    checked = check_data(call.services, run_request) if check else CheckedData(usable=True)
    if not checked.usable:
        raise typer.Exit(2)
    if dry_run:
        from medloop.commands.launch.plan import print_plan

        print_plan(call, run_request, checked.report)
        return
    if budget is not None and call.where is TargetChoice.aws:  # here a run costs nothing
        from medloop.commands.launch.costing import check_budget, price_lines

        definition = read_definition(call.services.definition(TargetChoice.local, resolved))
        check_budget(price_lines(definition, resolved.parameters), budget)  # before anything is uploaded
    target = call.open()
    selection = select(call.services, target, resolved, only, source)
    arn = start(call.services, target, run_request, yes=yes, selection=selection)
    wait_and_report(call, target, arn, wait=wait)


def _defaults(call: Call, data: str, *, dry_run: bool) -> DataDefaults:
    """The settings that the data imply: on AWS their card, locally their project's name too.

    A dry run opens no target, so it doesn't read a card on S3.
    """
    is_on_s3 = data.startswith("s3://")
    s3 = call.open().boto.client("s3") if is_on_s3 and not dry_run else None
    return data_defaults(data, is_project=call.where is TargetChoice.local, s3=s3)
