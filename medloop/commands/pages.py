"""Pages that commands draw: their templates, where they lie, how they are written and shown."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medloop.commands.options import Services
from medloop.commands.output import print_line
from medloop.errors import TargetError
from medloop.local.state.home import Home

if TYPE_CHECKING:
    from jinja2 import Environment

OutOption = Annotated[Path | None, typer.Option("--out", help="Write the page to this file.")]
BrowserOption = Annotated[bool, typer.Option("--browser/--no-browser", help="Open it; by default on a terminal.")]


def templates(package: str, **filters: Callable[..., Any]) -> Environment:
    """The templates in a package's folder `templates`; every value is escaped.

    Args:
        package: Such as `medloop.commands.execution`.
        filters: More of them, by name.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment


def page_path(home: Home, name: str, out: Path | None) -> Path:
    """The path of a page: by default below home; in a temporary folder if home can't be written."""
    if out is not None:
        return out.absolute()
    with suppress(TargetError):
        folder = home.folder("pages")
        if os.access(folder, os.W_OK):
            return (folder / f"{name}.html").absolute()
    return Path(tempfile.mkdtemp(prefix="medloop-"), f"{name}.html")


def write_page(path: Path, html: str) -> None:
    """Write a page in one step: a reader in the meantime sees the old page or the new one, complete.

    Raises:
        TargetError: It can't be written there.
    """
    special = path.exists() and not path.is_file()  # such as /dev/stdout, whose place no file may take
    part = path if special else path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(html, encoding="utf-8")
        if part != path:
            part.replace(path)
    except OSError as error:
        if part != path:
            part.unlink(missing_ok=True)
        raise TargetError(f"{path}: can't be written ({error.strerror}); give another file with --out") from None


def show_page(services: Services, page: Path, *, browser: bool) -> None:
    """Print where a page lies, and open it where someone sits before a terminal."""
    print_line(services.out, str(page))
    if browser:
        browse(services, page)


def browse(services: Services, page: Path) -> None:
    """Open a page in the browser, where someone sits before a terminal."""
    if services.out.is_terminal:
        typer.launch(page.as_uri())
