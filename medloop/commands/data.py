"""`medloop data`: look at a data set before it costs anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medloop.commands.checking import check as check_folder
from medloop.commands.checking import print_problems
from medloop.commands.options import JsonOption, Task, services

app = typer.Typer(no_args_is_help=True, help="Data sets.")


@app.command()
def check(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The data set.")],
    task: Annotated[Task, typer.Option(help="What the data set is for.")],
    labels: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Segmentation: names by label value, the background first."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check every file of a data set as the split job does; exit code 2 where something is wrong."""
    names = [name.strip() for name in labels.split(",")] if labels else None
    report = check_folder(services(ctx), folder, task.value, names)
    print_problems(services(ctx), report)
    if report.problems:
        raise typer.Exit(2)
