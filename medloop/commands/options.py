"""Options that several commands share, and the services that commands get from `medloop.cli.main`."""

from __future__ import annotations

import functools
import inspect
import os
import shlex
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console

from medloop.commands.completion import preset_names
from medloop.commands.output import make_console
from medloop.errors import TargetError

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

    from medloop.cloud.target import Target
    from medloop.cloud.upsert import UpsertResult
    from medloop.settings import Resolved


class TargetChoice(StrEnum):
    """Targets of pipelines."""

    local = "local"
    aws = "aws"


class PetValues(StrEnum):
    """Values of PET volumes."""

    suv = "suv"
    stored = "stored"


class RuntimeChoice(StrEnum):
    """Runtimes of local jobs and endpoints."""

    process = "process"
    container = "container"
    docker = "docker"
    podman = "podman"


class TaskChoice(StrEnum):
    """Task of a data set."""

    classification = "classification"
    segmentation = "segmentation"


def _open_target(name: str, home: Path) -> Target:
    from medloop.cloud.sessions import open_target

    return open_target(cast(Any, name), home)


def _upsert(target: Target, resolved: Resolved) -> UpsertResult:
    from medloop.cloud.upsert import upsert

    return upsert(target, resolved)


def _build(target: Target, resolved: Resolved) -> str:
    from medloop.cloud.upsert import build_definition

    return build_definition(target, resolved)


def _find_published(target: Target, resolved: Resolved) -> UpsertResult | None:
    from medloop.cloud.published import find_published

    return find_published(target, resolved)


@dataclass(frozen=True)
class Services:
    """Services that a command calls; tests pass their own.

    Args:
        open_target: Name and home folder to a Target.
        upsert: Makes or updates the pipeline on the target, with all that it needs there.
        find_published: Finds the pipeline's version on AWS that equals the definition; None on the local target.
        build: Builds the definition's JSON text for the target; touches nothing there.
        sleep: Waits between two looks at an execution.
        out: Results.
        err: Progress and errors.
    """

    open_target: Callable[[str, Path], Target] = _open_target
    upsert: Callable[[Target, Resolved], UpsertResult] = _upsert
    find_published: Callable[[Target, Resolved], UpsertResult | None] = _find_published
    build: Callable[[Target, Resolved], str] = _build
    sleep: Callable[[float], None] = time.sleep
    out: Console = field(default_factory=make_console)
    err: Console = field(default_factory=lambda: make_console(stderr=True))

    def definition(self, target: TargetChoice, resolved: Resolved) -> str:
        """Build the pipeline's definition as upsert would send it.

        A definition doesn't depend on the home folder, so a temporary folder is enough: the user's is neither created
        nor changed.
        """
        with tempfile.TemporaryDirectory(prefix="medloop-") as scratch:
            return self.build(self.open_target(target.value, Path(scratch)), resolved)

    def target(self, name: TargetChoice, home: Path) -> Target:
        """Open a target with an absolute home folder.

        Raises:
            TargetError: The home folder can't be one.
        """
        return self.open_target(name.value, usable_home(home))


def services(ctx: typer.Context) -> Services:
    """The services that `main` gave to this command."""
    return cast(Services, ctx.obj)


def usable_home(home: Path) -> Path:
    """The home folder, absolute; makes nothing. One that exists needn't be writable: records can be read there.

    Raises:
        TargetError: It is a file, is below one, or can't be made or read.
    """
    home = Path(os.path.abspath(home.expanduser()))
    existing = next(path for path in (home, *home.parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise TargetError(f"--home {home}: {existing} is a file; give a folder")
    if existing != home and not os.access(existing, os.W_OK):
        raise TargetError(f"--home {home}: {existing} can't be written; give another folder or set MEDLOOP_HOME")
    if not os.access(existing, os.R_OK | os.X_OK):
        raise TargetError(f"--home {home}: can't be read; give another folder or set MEDLOOP_HOME")
    return home


def flags(target: str, home: Path) -> str:
    """The options that a further command needs to look at the same place: empty where the defaults lead there."""
    if target == TargetChoice.aws:
        return "" if os.environ.get("MEDLOOP_TARGET") == target else " --target aws"
    default = Path(os.environ.get("MEDLOOP_HOME") or DEFAULT_HOME)
    return "" if Path(os.path.abspath(default)) == home else f" --home {shlex.quote(str(home))}"


DEFAULT_HOME = Path(".medloop")
TargetOption = Annotated[
    TargetChoice, typer.Option("--target", envvar="MEDLOOP_TARGET", help="Where to run: this machine, or AWS.")
]


def _folder(text: str) -> Path:
    """The folder that an option names; an empty one would be the current folder."""
    if not str(text).strip():
        raise typer.BadParameter("is empty; give a folder")
    return Path(text)


HomeOption = Annotated[
    Path,
    typer.Option(
        "--home",
        envvar="MEDLOOP_HOME",
        metavar="DIR",
        parser=_folder,
        help="Folder of everything that local runs keep.",
    ),
]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the execution to its end.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Change the pipeline on AWS without asking.")]
PresetOption = Annotated[
    str | None,
    typer.Option("--preset", "-p", help="A named set of settings (`presets list`).", autocompletion=preset_names),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a build-time setting, such as split.seed=3."),
]
RuntimeOption = Annotated[
    RuntimeChoice | None,
    typer.Option(
        "--runtime",
        help="Run local jobs and endpoints as processes, or in the images that AWS runs, by the first engine that "
        "works here or by this one (MEDLOOP_RUNTIME; process by default).",
    ),
]
ProjectOption = Annotated[
    str | None,
    typer.Option(
        "--project",
        metavar="NAME",
        help="What the model is for, such as prostate: pipeline, model group, champion and endpoint have this name.",
    ),
]
ParamOption = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=VALUE", help="Change a pipeline parameter, such as Epochs=5."),
]
BudgetOption = Annotated[
    float | None,
    typer.Option(min=0, metavar="USD", help="Refuse what could cost more than this on AWS (`pipelines cost`)."),
]


@dataclass(frozen=True)
class Call:
    """One call of a command on a target: what it needs from outside, and its --target, --home (absolute) and --json."""

    services: Services
    where: TargetChoice
    home: Path
    json: bool

    @property
    def flags(self) -> str:
        """The options that a further command needs to look at the same place."""
        return flags(self.where, self.home)

    def open(self) -> Target:
        """Open the target."""
        return self.services.target(self.where, self.home)

    def sagemaker(self) -> SageMakerClient:
        """Open the target for its SageMaker client alone."""
        return self.open().boto.client("sagemaker")


def _call(
    ctx: typer.Context,
    target: TargetOption = TargetChoice.local,
    home: HomeOption = DEFAULT_HOME,
    json: JsonOption = False,
) -> Call:
    return Call(services(ctx), target, usable_home(home), json)


def choose_runtime(call: Call, name: str) -> None:
    """Make what this process and those that it starts run locally run so.

    Raises:
        TargetError: The target is AWS, or no engine works here.
    """
    from medloop.local.state.runtime import PROCESS, RUNTIME_VARIABLE

    if call.where is not TargetChoice.local:
        raise TargetError("--runtime: is for --target local; AWS runs images always; leave it out")
    if name != PROCESS:
        from medloop.local.jobs.container_runtime import find_runner

        find_runner(name)
    os.environ[RUNTIME_VARIABLE] = name


def on_target(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a `Call`: --target and --home in the place of its parameter `call`, --json last."""
    shared = inspect.signature(_call, eval_str=True).parameters
    parameters = [shared["ctx"]]
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        parameters += [shared["target"], shared["home"]] if name == "call" else [parameter]

    @functools.wraps(command)
    def run(**options: Any) -> None:
        call = _call(**{name: options.pop(name) for name in shared})
        command(**options, call=call)

    vars(run)["__signature__"] = inspect.Signature(
        [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*parameters, shared["json"])]
    )
    return run
