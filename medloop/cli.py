"""The command line, `medloop`.

Each group of commands is one module below `medloop.commands`, which imports what is heavy inside its functions:
`medloop --help` must be fast. Exit codes: 0 success; 1 an execution did not succeed; 2 a user's
error, also inside a job; 130 interrupted. An expected error is one line on stderr; a bug keeps its traceback.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from typing import Annotated

import typer

from medloop.commands import demo, images, init, presets, samples, tracking
from medloop.commands.execution import executions
from medloop.commands.hosting import endpoints
from medloop.commands.launch import data, pipelines, run, schedules
from medloop.commands.options import Services
from medloop.commands.output import print_error, print_line
from medloop.commands.registry import models
from medloop.errors import MedloopError, UserError

app = typer.Typer(
    name="medloop",
    help="Train, evaluate and register medical-image models with SageMaker Pipelines, on AWS or locally.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(ctx: typer.Context, is_wanted: bool) -> None:
    if is_wanted:
        print_line(ctx.obj.out, f"medloop {version('medloop')}")
        raise typer.Exit


@app.callback()
def _options(
    is_wanted: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("init")(init.init)
app.add_typer(samples.app, name="samples")
app.add_typer(data.app, name="data")
app.add_typer(pipelines.app, name="pipelines")
app.add_typer(executions.app, name="executions")
app.add_typer(models.app, name="models")
app.add_typer(endpoints.app, name="endpoints")
app.add_typer(images.app, name="images")
app.add_typer(schedules.app, name="schedules")
app.add_typer(tracking.app, name="tracking")
app.add_typer(presets.app, name="presets")

INTERRUPTED = 130
GARBAGE_THRESHOLD = 10_000
"""New objects from which garbage is collected. What a command imports stays, and is searched ten times as rarely."""
_FREE = "free some space, or set MEDLOOP_HOME to a folder on another disk"
_PERMIT = "change its permissions, or give another file or folder"
_DISK_FIXES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FREE),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _PERMIT),
    errno.EIO: "check the disk",
}
"""The fix, by the system's error."""


@cache
def _command() -> Callable[..., object]:
    """The commands of `app`, whose signatures are read once a process."""
    return typer.main.get_command(app)


def main(argv: Sequence[str] | None = None, services: Services | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; None: those of the process.
        services: External services of commands; None: the real ones.

    Returns:
        The exit code.
    """
    services = services or Services()
    _start_fast()
    try:
        code = _command()(args=argv, prog_name="medloop", standalone_mode=False, obj=services)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except typer.TyperException as error:
        return _usage_error(services, error)
    except MedloopError as error:
        print_error(services.err, str(error))
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print_error(services.err, "interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return _silence_stdout()
    except Exception as error:
        return _service_error(services, error)


def _start_fast() -> None:
    """Spend less of a short command's time on garbage collection, and on plugins of pydantic."""
    gc.set_threshold(GARBAGE_THRESHOLD)
    # Pydantic reads the metadata of every installed package to find plugins.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def _usage_error(services: Services, error: typer.TyperException) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        for line in error.format_message().split("\n"):
            print_line(services.out, line)
        return 2
    context = getattr(error, "ctx", None)
    hint = f"; see `{context.command_path} --help`" if context is not None else ""
    print_error(services.err, error.format_message().rstrip(".").replace("\n", " ") + hint)
    return 2


def _service_error(services: Services, error: Exception) -> int:
    """Print an error of a service or of the disk in one line; any other is a bug and keeps its traceback."""
    if isinstance(error, OSError) and error.errno in _DISK_FIXES:
        reason = f"{error.filename or 'a file'}: can't be used ({error.strerror})"
        print_error(services.err, f"{reason}; {_DISK_FIXES[error.errno]}")
        return UserError.exit_code
    if not type(error).__module__.startswith("botocore."):
        raise error
    print_error(services.err, " ".join(_service_message(error).split()))
    return UserError.exit_code


def _service_message(error: Exception) -> str:
    """The service's message, then the operation and the error code; the exception's text if it has no response."""
    response = getattr(error, "response", {}).get("Error", {})
    if not response.get("Message"):
        return str(error)
    return f"{response['Message']} ({getattr(error, 'operation_name', '')}: {response.get('Code', '')})"


def _silence_stdout() -> int:
    """Discard further output, including the interpreter's last flush, because the reader of the pipe has closed it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


if __name__ == "__main__":
    sys.exit(main())
