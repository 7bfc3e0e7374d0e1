"""`medloop samples`: real images for trying the pipelines, made from volumes in Python packages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from medloop.commands.options import services
from medloop.commands.output import print_line

app = typer.Typer(no_args_is_help=True, help="Create sample data sets of real images.")
_STEPS = 500
"""Steps in which a progress bar moves."""
FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")]


@app.command()
def plane(ctx: typer.Context, folder: FolderArgument) -> None:
    """Create 2D slices of seven volumes, to classify as axial, coronal or sagittal."""
    from medloop.samples.plane import make_plane

    with progress_bar(services(ctx).err, "volumes") as progress:
        make_plane(folder, progress=progress)
    print_line(services(ctx).out, f"plane: {folder}")


@app.command("brain-tissue")
def brain_tissue(
    ctx: typer.Context,
    folder: FolderArgument,
    subjects: Annotated[int, typer.Option(min=3, help="Number of subjects to derive from the template.")] = 16,
) -> None:
    """Create 3D brain volumes with grey and white matter, all derived from one template."""
    from medloop.samples.tissue import make_brain_tissue

    with progress_bar(services(ctx).err, "subjects") as progress:
        make_brain_tissue(folder, num_subjects=subjects, progress=progress)
    print_line(services(ctx).out, f"brain-tissue: {folder}")


@contextmanager
def progress_bar(console: Console, title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal; otherwise print a line every half minute.

    Args:
        console: The console to draw on.
        title: The counted items, in the plural.

    Yields:
        A function of (done, total).
    """
    if not console.is_terminal:
        from medloop.imaging.progress_lines import progress_lines

        yield progress_lines(title, partial(print_line, console))
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def show(done: int, total: int) -> None:
            if (
                done == total or done % max(1, total // _STEPS) == 0
            ):  # drawing each file would take as long as reading it
                bar.update(task, completed=done, total=total)

        yield show
