"""`medloop pipelines`: the installed pipelines and their definitions."""

from __future__ import annotations

import json as json_module
from typing import Annotated

import typer

from medloop.commands.completion import pipeline_names
from medloop.commands.launch.changes import confirm_changes, pending_changes, print_changes
from medloop.commands.launch.launching import print_missing_card_fields
from medloop.commands.options import (
    BudgetOption,
    Call,
    JsonOption,
    ParamOption,
    PresetOption,
    ProjectOption,
    SetOption,
    TargetChoice,
    TargetOption,
    YesOption,
    on_target,
    services,
)
from medloop.commands.output import print_json, print_line, print_table
from medloop.definition.draw import draw_text
from medloop.definition.read import read_definition

app = typer.Typer(no_args_is_help=True, help="Pipelines and their definitions.")
NameArgument = Annotated[
    str, typer.Argument(help="Name of the pipeline (see `pipelines list`).", autocompletion=pipeline_names)
]


@app.command("list")
def list_(ctx: typer.Context, json: JsonOption = False) -> None:
    """List the installed pipelines."""
    from medloop.presets import load_presets
    from medloop.settings import list_pipelines, load_pipeline

    specs, presets = [load_pipeline(name) for name in list_pipelines()], load_presets()
    rows = [
        {"name": s.name, "task": s.task, "presets": [n for n, preset in presets.items() if preset.pipeline == s.name]}
        for s in specs
    ]
    if json:
        print_json(rows)
        return
    shown = [(row["name"], row["task"], ", ".join(row["presets"])) for row in rows]
    print_table(services(ctx).out, ("pipeline", "task", "presets"), shown)


@app.command()
def show(
    ctx: typer.Context,
    name: NameArgument,
    preset: PresetOption = None,
    project: ProjectOption = None,
    sets: SetOption = None,
    target: TargetOption = TargetChoice.local,
    json: JsonOption = False,
) -> None:
    """Draw a pipeline's steps, and show its parameters."""
    from medloop.settings import resolve

    resolved = resolve(name, preset, sets or (), project=project)
    read = read_definition(services(ctx).definition(target, resolved))
    if json:
        steps = [
            {"name": s.name, "type": s.type, "needs": sorted(s.needs), "branch": s.branch} for s in read.in_order()
        ]
        print_json({"name": resolved.pipeline, "parameters": read.parameters, "steps": steps})
        return
    out = services(ctx).out
    for line in draw_text(read).split("\n"):
        print_line(out, line)
    print_line(out, "")
    rows = [(p.name, p.type, p.default) for p in read.parameters]
    print_table(out, ("parameter", "type", "default"), rows)


@app.command()
def definition(
    ctx: typer.Context,
    name: NameArgument,
    preset: PresetOption = None,
    project: ProjectOption = None,
    sets: SetOption = None,
    target: TargetOption = TargetChoice.local,
) -> None:
    """Print a pipeline's definition, the JSON that the service runs."""
    from medloop.settings import resolve

    resolved = resolve(name, preset, sets or (), project=project)
    print_json(json_module.loads(services(ctx).definition(target, resolved)))


@app.command()
@on_target
def diff(
    name: NameArgument,
    preset: PresetOption = None,
    project: ProjectOption = None,
    sets: SetOption = None,
    *,
    call: Call,
) -> None:
    """Show the changes that an upsert would make on the target."""
    from medloop.settings import resolve

    target = call.open()
    resolved = resolve(name, preset, sets or (), project=project)
    changes = pending_changes(call.services, target, resolved)
    if call.json:
        print_json({"pipeline": resolved.pipeline, "new": changes is None, "changes": changes or []})
        return
    print_changes(call.services.out, resolved.pipeline, target, changes)


@app.command()
@on_target
def upsert(
    name: NameArgument,
    preset: PresetOption = None,
    project: ProjectOption = None,
    sets: SetOption = None,
    *,
    call: Call,
    yes: YesOption = False,
) -> None:
    """Create or update a pipeline on the target, with its code; on AWS, show the changes and ask first."""
    from medloop.settings import resolve

    resolved = resolve(name, preset, sets or (), project=project)
    print_missing_card_fields(call.services, resolved)
    target = call.open()
    confirm_changes(call.services, target, resolved, yes=yes)
    arn = call.services.upsert(target, resolved).arn
    if call.json:
        print_json({"pipeline": resolved.pipeline, "arn": arn})
        return
    print_line(call.services.out, f"pipeline {arn}")


@app.command()
def cost(
    ctx: typer.Context,
    name: NameArgument,
    preset: PresetOption = None,
    project: ProjectOption = None,
    sets: SetOption = None,
    params: ParamOption = None,
    hours: Annotated[
        list[str] | None,
        typer.Option(metavar="STEP=HOURS", help="Hours of a step, such as Train=1.5; adds an estimate."),
    ] = None,
    prices: Annotated[
        list[str] | None,
        typer.Option("--price", metavar="TYPE=USD", help="Your price of an instance type an hour, if it differs."),
    ] = None,
    budget: BudgetOption = None,
    json: JsonOption = False,
) -> None:
    """Price an execution on AWS before it starts: the largest cost, and the cost of given hours."""
    from medloop.commands.launch.costing import check_budget, price_lines, print_cost
    from medloop.definition.cost import load_prices
    from medloop.settings import resolve

    resolved = resolve(name, preset, sets or (), params or (), project=project)
    read = read_definition(services(ctx).definition(TargetChoice.local, resolved))
    lines = price_lines(read, resolved.parameters, hours or (), prices or ())
    if json:
        listed = load_prices()
        print_json({"pipeline": resolved.pipeline, "steps": lines, "as_of": listed.as_of, "source": listed.source})
    else:
        print_cost(services(ctx).out, lines)
    if budget is not None:
        check_budget(lines, budget)
