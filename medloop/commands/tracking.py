"""`medloop tracking`: the pages of MLflow and TensorBoard on what local runs have tracked."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated

import typer

from medloop.commands.options import DEFAULT_HOME, HomeOption, Services, services, usable_home
from medloop.commands.output import print_line
from medloop.errors import TargetError

app = typer.Typer(no_args_is_help=True, help="Experiment tracking of local runs.")

HOST = "127.0.0.1"
START_SECONDS = 90.0
_GRACE_SECONDS = 5.0
_PAGE_ONLY = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # The page of runs needs none of the processes that run MLflow's own jobs; each takes seconds to start.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


@app.callback()
def _group() -> None:
    """Keeps `ui` a command of its own while it is the only one."""


@dataclass(frozen=True)
class TrackingPage:
    """A tool's own web page.

    Args:
        name: The tool.
        module: Its Python module; must be installed.
        argv: The command but host and port.
        port: The port that it listens on.
    """

    name: str
    module: str
    argv: Sequence[str]
    port: int


@app.command()
def ui(
    ctx: typer.Context,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; 5000, or 6006 for TensorBoard, by default.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="TensorBoard instead of MLflow.")] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Open MLflow's own page (or TensorBoard's) on the runs of this machine; Ctrl-C ends it."""
    home = usable_home(home)
    serve(services(ctx), (tensorboard_page if tensorboard else mlflow_page)(home, port))


def mlflow_page(home: Path, port: int | None = None) -> TrackingPage:
    """MLflow's page on the store of a home.

    Raises:
        TargetError: Nothing has been tracked there yet.
    """
    from medloop.local.jobs.tracking import store_uri
    from medloop.local.state.home import Home

    store = store_uri(Home.find(home))
    if not Path(store.removeprefix("sqlite:///")).is_file():
        fix = "run a pipeline with --param TrackingUri=local first"
        raise TargetError(f"{home}: no run has been tracked by MLflow here; {fix}")
    argv = (sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--workers", "1")
    return TrackingPage("MLflow", "mlflow", argv, port or 5000)


def tensorboard_page(home: Path, port: int | None = None) -> TrackingPage:
    """TensorBoard's page on the event files of all training jobs of a home.

    Raises:
        TargetError: There are none yet.
    """
    from medloop.cloud.layout import TENSORBOARD
    from medloop.local.state.home import BUCKET, Home

    folder = Home.find(home).buckets / BUCKET / TENSORBOARD
    if not folder.is_dir():
        raise TargetError(f"{home}: no training job has written event files here; run a pipeline first")
    argv = (sys.executable, "-m", "tensorboard.main", "--logdir", str(folder))
    return TrackingPage("TensorBoard", "tensorboard", argv, port or 6006)


def serve(services: Services, page: TrackingPage) -> None:
    """Start a page, say where it is, and end it with Ctrl-C.

    Raises:
        TargetError: The tool isn't installed, the port is taken, or the tool doesn't start.
    """
    if importlib.util.find_spec(page.module) is None:
        raise TargetError(f"{page.name} is not installed; pip install 'medloop[jobs]'")
    _check_port(page)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(  # noqa: S603 (the tools' own programs)
            [*page.argv, "--host", HOST, "--port", str(page.port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_PAGE_ONLY},
            start_new_session=True,  # its workers end with it, and Ctrl-C reaches us alone
        )
        # SIGINT too: a shell that starts commands in the background has them ignore it.
        before = {
            number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            _wait_for_start(page, process, log)
            print_line(services.out, f"{page.name}: http://{HOST}:{page.port}  (Ctrl-C ends it)")
            process.wait()
            raise TargetError(f"{page.name} ended: {_last_words(log)}")
        except KeyboardInterrupt:
            print_line(services.err, f"{page.name} ended", "dim")
        finally:
            _end(process)
            for number, handler in before.items():
                signal.signal(number, handler)


def _check_port(page: TrackingPage) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, page.port))
        except OSError as error:
            raise TargetError(f"--port {page.port}: can't be used ({error.strerror}); give another one") from None


def _wait_for_start(page: TrackingPage, process: subprocess.Popen[bytes], log: IO[str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None:
        try:
            socket.create_connection((HOST, page.port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise TargetError(f"{page.name} didn't start in {START_SECONDS:g} s: {_last_words(log)}") from None
            time.sleep(0.2)
    raise TargetError(f"{page.name} didn't start: {_last_words(log)}")


def _last_words(log: IO[str]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole group: the servers of both tools have workers."""
    for number, patience in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _GRACE_SECONDS)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
