"""`medloop samples`: real images to try the pipelines with, made from volumes that packages ship."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from medloop.commands.options import services
from medloop.commands.output import say

app = typer.Typer(no_args_is_help=True, help="Make sample data sets of real images.")
FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")]


@app.command()
def plane(ctx: typer.Context, folder: FolderArgument) -> None:
    """2D slices of six volumes, to classify as axial, coronal or sagittal."""
    from medloop.samples.plane import make_plane

    with counting(services(ctx).err, "volumes") as progress:
        make_plane(folder, progress=progress)
    say(services(ctx).out, f"plane: {folder}")


@app.command("brain-tissue")
def brain_tissue(
    ctx: typer.Context,
    folder: FolderArgument,
    subjects: Annotated[int, typer.Option(min=3, help="How many subjects to derive from the template.")] = 16,
) -> None:
    """3D brain volumes with grey and white matter, all derived from one template."""
    from medloop.samples.tissue import make_brain_tissue

    with counting(services(ctx).err, "subjects") as progress:
        make_brain_tissue(folder, num_subjects=subjects, progress=progress)
    say(services(ctx).out, f"brain-tissue: {folder}")


@contextmanager
def counting(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere.

    Args:
        console: Where to draw.
        what: What is counted, in the plural.

    Yields:
        A function of (done, total).
    """
    if not console.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
