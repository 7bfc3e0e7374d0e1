"""`medloop data deidentify`: copies of DICOM files without what could identify a patient."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medloop.commands.launch.importing import grouped_lines, progress_bars, read_pseudonym_key
from medloop.commands.options import DEFAULT_HOME, HomeOption, JsonOption, services
from medloop.commands.output import print_json, print_line
from medloop.errors import DataError


def deidentify_folder(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A folder of DICOM files.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    retain_dates: Annotated[
        bool, typer.Option("--retain-dates", help="Keep dates, moved by days that are the patient's, and times.")
    ] = False,
    retain_device: Annotated[bool, typer.Option("--retain-device", help="Keep the scanner's identity.")] = False,
    accept_burned_in: Annotated[
        bool, typer.Option("--accept-burned-in", help="Include images that may show a patient's name in their pixels.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    json: JsonOption = False,
) -> None:
    """Copy DICOM files by the basic profile of PS3.15, with this home's key; the same key gives the same names."""
    from medloop.dicom.deidentify import Retained
    from medloop.importing.deidentify_files import deidentify_files

    if not source.is_dir():
        raise DataError(f"{source}: is no folder; give the folder of the DICOM files")
    key = read_pseudonym_key(services(ctx), home)
    retained = Retained(dates=retain_dates, device=retain_device)
    bars = progress_bars(services(ctx))
    result = deidentify_files(source, folder, key, retained, accept_burned_in=accept_burned_in, progress=bars)
    if json:
        left_out = [{"path": each.files[0], "reason": each.reason} for each in result.left_out]
        print_json({"folder": folder, "num_files": len(result.written), "left_out": left_out})
    else:
        print_line(services(ctx).out, f"{folder}: {len(result.written)} files")
        for text in grouped_lines((each.files[0], each.reason) for each in result.left_out):
            print_line(services(ctx).err, f"left out: {text}", "yellow")
    if not result.written:
        raise DataError(f"{source}: no file was written; see the reasons above")
