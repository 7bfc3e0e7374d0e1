"""`medloop data import`: write a data set in medloop's layout from what hospitals and challenges give."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medloop.commands.launch.label_names import parse_label_names
from medloop.commands.options import (
    DEFAULT_HOME,
    HomeOption,
    JsonOption,
    PetValues,
    Services,
    TargetChoice,
    TaskChoice,
    services,
    usable_home,
)
from medloop.commands.output import print_json, print_line
from medloop.commands.samples import progress_bar
from medloop.errors import DataError, SettingError

if TYPE_CHECKING:
    from medloop.documents.import_report import ImportReport

MAX_LISTED = 20
"""Reasons and warnings that are printed; the report has all."""


class FramesOfLoop(StrEnum):
    """Frames of a cine loop that become images."""

    middle = "middle"
    all = "all"


QueryOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Studies of a DICOMweb server, as ModalitiesInStudy=CT; repeatable."),
]
OriginalsOption = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Where files of a DICOMweb server are kept (DIR-dicom by default)."),
]
ChannelOption = Annotated[
    str, typer.Option(metavar="NAME|NUMBER", help="Channel of images with several channels to import.")
]
SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SRC", help="A folder, archive, DICOMDIR, table or .npz file, or the URL of a DICOMweb server."
    ),
]


def import_folder(
    ctx: typer.Context,
    source: SourceArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The data set: a new folder, or one to resume.")],
    task: Annotated[TaskChoice | None, typer.Option(help="Task to import for; by default the files decide.")] = None,
    kind: Annotated[
        str | None, typer.Option("--source", metavar="KIND", help="Kind of the source; by default it is recognised.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Structures by label value, the background first; or names of classes."),
    ] = None,
    attributes: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...", help="Columns of patients.csv from headers (sex,age_group,scanner by default; or none)."
        ),
    ] = None,
    class_by: Annotated[
        str,
        typer.Option(metavar="WHERE", help="Class of 2D DICOM images: folder, or the keyword of a header field."),
    ] = "",
    accept_burned_in: Annotated[
        bool, typer.Option("--accept-burned-in", help="Import images that may show a patient's name in their pixels.")
    ] = False,
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="Import volumes without a label, too.")] = False,
    pet: Annotated[PetValues, typer.Option(help="Values of PET volumes.")] = PetValues.suv,
    frames: Annotated[FramesOfLoop, typer.Option(help="Frames of cine loops to import.")] = FramesOfLoop.middle,
    channel: ChannelOption = "",
    query: QueryOption = None,
    originals: OriginalsOption = None,
    home: HomeOption = DEFAULT_HOME,
    json: JsonOption = False,
) -> None:
    """Import DICOM or another layout as a data set; a second import writes only what is missing."""
    from medloop.importing.cases import ImportOptions
    from medloop.importing.run_import import import_data

    options = ImportOptions(
        key=read_pseudonym_key(services(ctx), home),
        task=task.value if task else None,
        labels=tuple(parse_label_names(labels)) if labels is not None else None,
        attributes=_attributes(attributes),
        class_by=class_by,
        accept_burned_in=accept_burned_in,
        unlabelled=unlabelled,
        pet=pet.value,
        frames=frames.value,
        channel=channel,
    )
    path = _local(services(ctx), source, originals or _originals(folder), query or [])
    report = import_data(path, folder, options, kind, progress_bars(services(ctx)))
    if json:
        print_json(report.model_dump())
    else:
        _print(services(ctx), folder, report)
    if not report.cases:
        raise DataError(f"{source}: no case was imported; {_why_none(report)}")


def _local(call: Services, source: str, originals: Path, query: Sequence[str]) -> Path:
    """The source's path; the files of a DICOMweb server are fetched first."""
    if not source.startswith(("http://", "https://")):
        if query:
            raise SettingError(f"--query {query[0]}: is for a DICOMweb server; give its URL as SRC")
        return Path(source)
    from medloop.dicom.web import fetch, open_client

    filters = dict(_filter(text) for text in query)
    client = open_client(source)
    with progress_bar(call.err, "files fetched") as show:
        fetched = fetch(client, source, originals, filters, show)
    if not fetched.num_files:
        raise DataError(f"{source}: has no studies that match; change --query")
    text = f"{originals}: {fetched.num_files - fetched.num_missing} original files, {fetched.num_new} new"
    print_line(call.err, f"{text}; they have patients' names: delete the folder when you no longer need it", "yellow")
    if fetched.num_missing:
        print_line(call.err, f"warning: {source} lists {fetched.num_missing} files that it doesn't send", "yellow")
    return originals


def _originals(folder: Path) -> Path:
    """The folder next to a data set's."""
    path = folder.absolute()
    return path.with_name(f"{path.name}-dicom")


def _filter(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise SettingError(f"--query {text}: has no value; write KEY=VALUE, as ModalitiesInStudy=CT")
    return name, value


def progress_bars(call: Services) -> Callable[[str], AbstractContextManager[Any]]:
    """Bars on the terminal for long steps, by their names."""
    return partial(progress_bar, call.err)


def _attributes(text: str | None) -> tuple[str, ...]:
    from medloop.dicom.attributes import DEFAULT_ATTRIBUTES

    if text is None:
        return DEFAULT_ATTRIBUTES
    return () if text.strip() in ("", "none") else tuple(name.strip() for name in text.split(","))


def read_pseudonym_key(call: Services, home: Path) -> bytes:
    """The key of pseudonyms of this home, which is made if it isn't there."""
    from medloop.cloud.layout import PSEUDONYM_KEY
    from medloop.cloud.upsert import ensure_pseudonym_key
    from medloop.imaging.identity import read_key
    from medloop.local.state.home import BUCKET

    path = usable_home(home) / "s3" / BUCKET / PSEUDONYM_KEY
    if not path.is_file():
        ensure_pseudonym_key(call.target(TargetChoice.local, home))
    return read_key(path.parent)


def _why_none(report: ImportReport) -> str:
    reasons = {omission.reason for omission in report.left_out}
    return "the lines above say why" if len(reasons) > 1 else next(iter(reasons), "the source has no images")


def _print(call: Services, folder: Path, report: ImportReport) -> None:
    num_new = sum(case.is_new for case in report.cases)
    print_line(call.out, f"source: {report.source} ({report.evidence})")
    patients = f" of {report.num_patients} patients" if report.num_patients else ""
    print_line(call.out, f"{folder}: {report.task}, {len(report.cases)} cases{patients}, {num_new} new")
    if report.labels:
        print_line(call.out, f"labels: {','.join(report.labels)}")
    warnings = [*report.warnings, *grouped_lines((case.name, text) for case in report.cases for text in case.warnings)]
    for text in warnings[:MAX_LISTED]:
        print_line(call.err, f"warning: {text}", "yellow")
    left_out = grouped_lines((omission.path, omission.reason) for omission in report.left_out)
    for text in left_out[:MAX_LISTED]:
        print_line(call.err, f"left out: {text}", "yellow")
    rest = max(0, len(warnings) - MAX_LISTED) + max(0, len(left_out) - MAX_LISTED)
    if rest:
        print_line(call.err, f"and {rest} more; the report has all", "yellow")
    if report.cases:
        labels = f" --labels {shlex.quote(','.join(report.labels))}" if report.labels else ""
        print_line(call.out, f"next: medloop data check {shlex.quote(str(folder))} --task {report.task}{labels}")


def grouped_lines(items: Any) -> Sequence[str]:
    """One line a kind of message."""
    from medloop.imaging.problems import Problem, group_by_kind

    return [problem.line for problem in group_by_kind(Problem(path, text) for path, text in items)]
