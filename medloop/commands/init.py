"""`medloop init`: a project of the user's own, which depends on the installed package.

The templates are in `medloop/project_template/`, rendered by Jinja with `<< name >>`: a workflow contains braces.
"""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medloop.checkout import REPOSITORY
from medloop.ci import INSTALL_SAMPLES, workflow_values
from medloop.cloud.layout import MAX_PIPELINE, PIPELINE_PATTERN
from medloop.commands.options import services
from medloop.commands.output import print_line
from medloop.errors import SettingError, TargetError

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).resolve().parents[1] / "project_template"
SUFFIX = ".jinja"
_HIDDEN = {"github": ".github", "gitignore": ".gitignore"}
"""Parts of the templates' paths whose first character would hide them."""
LOCKED = ("annotated-types", "dumb-init", "pydantic", "pydantic-core", "typing-extensions", "typing-inspection")
"""The packages that the project's container installs, all of which Split's has locked."""


def init(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of project and pipeline, such as lung-triage.")],
    folder: Annotated[
        Path | None, typer.Option("--folder", metavar="DIR", help="A new or empty folder; by default ./NAME.")
    ] = None,
) -> None:
    """Create a project of your own: pipeline, step, container, presets, tests, and a GitHub Actions workflow."""
    check_name(name)
    folder = folder or Path(name)
    files = render(name)
    _write(folder, files)
    print_line(services(ctx).out, f"{name}: {len(files)} files in {folder}; README.md has the next commands")


def check_name(name: str) -> None:
    """Refuse a name that can't be that of a pipeline and of a Python package, or that another one has.

    Raises:
        SettingError: The message says why, and what to choose.
    """
    package = package_name(name)
    if not re.fullmatch(PIPELINE_PATTERN, name) or len(name) > MAX_PIPELINE:
        raise SettingError(
            f"init {name}: is no name of a project; use {MAX_PIPELINE} characters at most: a lower-case letter, then "
            "letters, digits and inner hyphens, such as lung-triage"
        )
    if keyword.iskeyword(package) or package in sys.stdlib_module_names or find_spec(package) is not None:
        raise SettingError(f"init {name}: a Python package is named {package} already; choose another name")
    from medloop.settings import split_name

    if (named := split_name(name)) is not None:
        raise SettingError(
            f"init {name}: is the pipeline {named[0]}, or that of a project of it; choose a name that doesn't begin "
            f"with {named[0]}-"
        )


def package_name(name: str) -> str:
    """The project's Python package."""
    return name.replace("-", "_")


def render(name: str) -> dict[Path, str]:
    """Render the project's files, by path in it."""
    environment, package = _environment(), package_name(name)
    values: dict[str, Any] = {
        **workflow_values(name),
        "name": name,
        "package": package,
        "version": metadata("medloop")["Version"],
        "requires_python": metadata("medloop")["Requires-Python"],
        "locked": "\n".join(_locked(REPOSITORY / "containers" / "split" / "requirements.txt")),
    }
    templates = sorted(path.relative_to(TEMPLATES) for path in TEMPLATES.rglob(f"*{SUFFIX}"))
    names = {"NAME": name, "PACKAGE": package}
    return {_path(path, names): environment.get_template(path.as_posix()).render(values) for path in templates}


def render_workflow(values: Mapping[str, Any]) -> str:
    """Render the GitHub Actions workflow alone, for another project.

    Args:
        values: As `workflow_values`.
    """
    return _environment().get_template("github/workflows/medloop.yml.jinja").render(values)


def _path(template: Path, names: Mapping[str, str]) -> Path:
    parts = [_HIDDEN.get(part, part) for part in template.with_suffix("").parts]
    return Path(*(re.sub("NAME|PACKAGE", lambda match: names[match[0]], part) for part in parts))


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=False,  # noqa: S701 (no HTML)
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
    )
    environment.globals["install_samples"] = INSTALL_SAMPLES
    return environment


def _locked(lock: Path) -> Iterator[str]:
    """The lines of LOCKED's packages in a file of pip's requirements with hashes."""
    package = ""
    for line in lock.read_text(encoding="utf-8").splitlines():
        package = package if line.startswith(" ") else line.partition("==")[0]
        if package in LOCKED:
            yield line


def _write(folder: Path, files: Mapping[Path, str]) -> None:
    """Write a project into a new or empty folder; one with `.git` alone counts as empty.

    Raises:
        TargetError: The folder contains something, or can't be written.
    """
    try:
        if folder.exists() and (content := sorted(path.name for path in folder.iterdir() if path.name != ".git")):
            raise TargetError(f"{folder}: contains {content[0]}; give a new or empty folder with --folder")
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise TargetError(f"{folder}: can't be written ({error.strerror}); give another folder with --folder") from None
