"""`medloop data who`: the user's own file behind a pseudonym, on the machine that has the key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medloop.commands.options import DEFAULT_HOME, HomeOption, JsonOption, Services, services, usable_home
from medloop.commands.output import print_json, print_line, print_table
from medloop.commands.samples import progress_bar
from medloop.errors import DataError, UserError

if TYPE_CHECKING:
    from medloop.imaging.lookup import CaseName, OwnCase


def who(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="PSEUDONYM", help="From cases.csv, a page or a log, such as p0123456789ab_0003."),
    ],
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The data set; by default, every folder that this home's runs have used."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    json: JsonOption = False,
) -> None:
    """Find your own files and patient behind a pseudonym, with this home's key; nothing is stored."""
    from medloop.imaging.lookup import CaseName

    case_name = CaseName.parse(name)
    if case_name is None:
        raise UserError(f"{name}: is no pseudonym; give p and 12 digits or letters a to f, as cases.csv has them")
    home = usable_home(home)
    key = _read_key(home)
    folders = [data] if data else list(_data_folders(home))
    if not folders:
        raise DataError(f"{home}: no run of this home used a data set on this machine; give --data DIR")
    cases_by_folder = {folder: cases for folder in folders if (cases := _find(services(ctx), folder, key, case_name))}
    if not cases_by_folder:
        searched = ", ".join(map(str, folders))
        raise DataError(
            f"{name}: names nothing in {searched} with the key of {home}; give the --data and --home of its run"
        )
    if json:
        print_json({"pseudonym": case_name.patient, "folders": [_document(*item) for item in cases_by_folder.items()]})
        return
    _print(services(ctx), cases_by_folder)


def _read_key(home: Path) -> bytes:
    """Read the key that upsert made in this home.

    Raises:
        DataError: There is none.
    """
    from medloop.cloud.layout import PSEUDONYM_KEY
    from medloop.imaging.identity import read_key
    from medloop.local.state.home import BUCKET

    path = home / "s3" / BUCKET / PSEUDONYM_KEY
    if not path.is_file():
        raise DataError(f"--home {home}: has no key of pseudonyms ({path}); give the home in which the run was made")
    return read_key(path.parent)


def _data_folders(home: Path) -> Iterator[Path]:
    """The folders that this home's runs have used and that are still there, the latest first."""
    from medloop.local.state.home import BUCKET

    links = sorted((home / "s3" / BUCKET / "data").glob("*"), key=lambda link: link.lstat().st_mtime, reverse=True)
    return (link.resolve() for link in links if link.is_dir())


def _find(services: Services, folder: Path, key: bytes, name: CaseName) -> list[OwnCase]:
    from medloop.imaging.lookup import find_own_cases

    with progress_bar(services.err, "images compared") as progress:
        return find_own_cases(folder, key, name, progress)


def _document(folder: Path, cases: list[OwnCase]) -> dict[str, object]:
    return {"folder": folder, "cases": [vars(case) for case in cases]}


def _print(services: Services, cases_by_folder: dict[Path, list[OwnCase]]) -> None:
    for folder, cases in cases_by_folder.items():
        patients = ", ".join(dict.fromkeys(repr(case.patient) for case in cases if case.patient))
        print_line(services.out, f"{folder}: {f'patient {patients}' if patients else 'not named by patients.csv'}")
        rows = [(case.name or "-", folder / case.path) for case in cases]
        print_table(services.out, ("name in outputs", "file"), rows)
    if len(cases_by_folder) > 1:
        note = "the same names in several data sets have one pseudonym; choose the run's data set with --data DIR"
        print_line(services.err, note, "yellow")
