"""`medloop data`: import and check a data set before it costs anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from medloop.commands.launch.checking import check as check_folder
from medloop.commands.launch.checking import infer_task, print_problems, print_warnings, problem_line
from medloop.commands.launch.deidentifying import deidentify_folder
from medloop.commands.launch.importing import import_folder
from medloop.commands.launch.label_names import parse_label_names
from medloop.commands.launch.who import who
from medloop.commands.options import (
    DEFAULT_HOME,
    HomeOption,
    JsonOption,
    TargetChoice,
    TargetOption,
    TaskChoice,
    services,
)
from medloop.commands.output import print_json, print_line, print_table
from medloop.errors import printable

if TYPE_CHECKING:
    from medloop.documents.split import Split
    from medloop.imaging.problems import Problem
    from medloop.imaging.validation import DatasetReport

MAX_CLASSES = 30
"""Rows of the table of classes."""
app = typer.Typer(no_args_is_help=True, help="Data sets.")
app.command("who")(who)
app.command("import")(import_folder)
app.command("deidentify")(deidentify_folder)


@app.callback()
def group() -> None:
    """Data sets."""


@app.command()
def check(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The data set.")],
    task: Annotated[
        TaskChoice | None, typer.Option(help="Task of the data set; by default the folders decide.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Segmentation: names by label value, the background first."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check every file of a data set as the split job does; exit code 2 if there are problems."""
    names = parse_label_names(labels) if labels is not None else None
    from medloop.documents.split_rule import SplitRule

    chosen = task.value if task else infer_task(folder)
    report = check_folder(services(ctx), folder, chosen, names, SplitRule())
    if json:
        print_json(_document(folder, report))
    else:
        if task is None:
            print_line(services(ctx).out, f"task: {chosen}, by the folders; --task chooses another")
        _print_counts(services(ctx).out, folder, report)
        print_warnings(services(ctx), folder, report.warnings)
        print_problems(services(ctx), folder, report.problems)
    raise typer.Exit(2 if report.problems else 0)


@app.command()
def upload(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The data set.")],
    uri: Annotated[str, typer.Argument(metavar="S3", help="Its prefix: s3://bucket/raw/PIPELINE/NAME/.")],
    target: TargetOption = TargetChoice.aws,
    home: HomeOption = DEFAULT_HOME,
    json: JsonOption = False,
) -> None:
    """Upload a data set to S3; equal files keep their DataVersion, under KMS too."""
    from medloop.cloud.data_upload import upload_data

    done = upload_data(services(ctx).target(target, home).boto.client("s3"), folder, uri)
    if json:
        print_json(done)
        return
    print_line(services(ctx).out, f"{done.uri}: {done.num_files} files, {done.num_bytes:,} bytes")
    print_line(services(ctx).out, f"DataVersion {done.version}")
    if not done.by_content:
        reason = "other objects are below the prefix, so DataVersion depends on ETags, which KMS changes at each upload"
        print_line(services(ctx).err, f"{done.uri}: {reason}; delete them, or use another prefix", style="yellow")


def _document(folder: Path, report: DatasetReport) -> dict[str, Any]:
    from medloop.commands.launch.run_time import default_hyperparameters, run_seconds

    images = report.images
    return {
        "folder": folder,
        "task": report.task,
        "presplit": report.presplit,
        "patients_known": report.patients_known,
        "leakage": report.leakage.model_dump(),
        "num_cases": len(report.cases),
        "num_patients": report.num_patients,
        "classes": [
            {"name": name, "num_cases": num_cases, "num_patients": num_patients}
            for name, num_cases, num_patients in _class_rows(report)
        ],
        "images": images.model_dump() if images else None,
        "planned_split": _planned_split(report),
        "estimated_seconds": run_seconds(report, default_hyperparameters(report.task)),
        "problems": _lines(folder, report.problems),
        "warnings": _lines(folder, report.warnings),
    }


def _lines(folder: Path, problems: Iterable[Problem]) -> list[dict[str, str]]:
    return [{"path": problem.path, "line": problem_line(folder, problem)} for problem in problems]


def _planned_split(report: DatasetReport) -> dict[Split, int]:
    """Number of cases in each split."""
    from medloop.documents.split import SPLITS

    counts = Counter(report.split_of.values())
    return {split: counts[split] for split in SPLITS}


def _class_rows(report: DatasetReport) -> list[tuple[str, int, int]]:
    """List name, usable cases and patients of each class; in segmentation, of the cases with that class."""
    patients = report.num_patients_of_classes()
    return [(name, report.counts.get(name, 0), patients[name]) for name in report.classes]


def _print_counts(out: Console, folder: Path, report: DatasetReport) -> None:
    from medloop.commands.launch.run_time import default_hyperparameters, time_text

    reason = "patients.csv has problems" if report.identified else "no patients.csv"
    known = f"{report.num_patients} patients" if report.patients_known else f"patients unknown ({reason})"
    split = ", already split" if report.presplit else ""
    print_line(out, f"{folder}: {report.task}, {len(report.cases)} usable cases, {known}{split}")
    if report.classes:
        heading = "patients" if report.patients_known else "cases as patients"
        rows = _class_rows(report)
        shown = rows if len(rows) <= MAX_CLASSES else rows[: MAX_CLASSES - 1]
        print_table(out, ("class", "cases", heading), [(printable(name), *counts) for name, *counts in shown])
        if len(shown) < len(rows):
            print_line(out, f"... and {len(rows) - len(shown)} more; --json lists all")
    print_line(out, f"leakage: {report.leakage.note}")
    if report.split_of:
        sizes = ", ".join(f"{split} {num}" for split, num in _planned_split(report).items())
        print_line(out, f"cases in the {'existing' if report.presplit else 'planned'} split: {sizes}")
    if text := time_text(report, default_hyperparameters(report.task)):
        print_line(out, f"time of a run with the default settings: {text}")
    if (images := report.images) is not None:
        print_line(out, images.text)
    num = len(report.problems)
    print_line(out, "no problems" if num == 0 else f"{num} problem{'' if num == 1 else 's'}")
