"""One serving container as a process: staged like a job's, started on a loopback port, polled by /ping, and retired."""

from __future__ import annotations

import errno
import fcntl
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from medloop.documents.archive import ArchiveError, Limits, unpack
from medloop.local import processes
from medloop.local.errors import ServiceError, StagingError, StartError
from medloop.local.hosting.relay import Relay, is_supported
from medloop.local.jobs.folders import Folder, Launch, Program
from medloop.local.jobs.staging import environment, local_image, thread_variables, unpack_image, write_site
from medloop.local.jobs.warm import start_program
from medloop.local.processes import Process
from medloop.local.state.backend import Backend
from medloop.local.state.home import new_id
from medloop.local.state.log_streams import LogStream
from medloop.local.state.objects import split_uri
from medloop.local.state.runtime import PROCESS
from medloop.local.state.store import Document

MAX_MODEL_BYTES = 30 << 30
"""The size limit of an unpacked model: the volume of most instances on AWS."""
MAX_MODEL_FILES = 10_000
DRAIN_SECONDS = 65.0
"""The time of a replaced container to finish its requests: an invocation has 60 s."""
_PING_SECONDS = 2.0
_POLL_SECONDS = 0.05
_GRACE_SECONDS = 3.0
"""Between SIGTERM and SIGKILL: nothing is under way any more, and an interpreter with torch takes its time to end."""
_IN_USE = "in-use"


class GivenUpError(Exception):
    """The container is no longer needed."""


@dataclass
class Container:
    """A running container.

    Args:
        plan: What it runs: image, data, environment, variant.
        folder: Where it is staged.
        process: Its first process.
        port: Where it listens.
        log: What it prints goes there.
        temporary: Its TMPDIR.
        published: Whether an engine publishes its port: then no process of ours listens, and it ends where the port
            is taken.
        relay: Listens on its port, where the container has no network.
    """

    plan: Document
    folder: Folder
    process: Process
    port: int
    log: LogStream
    temporary: str
    published: bool = False
    relay: Relay | None = None

    @classmethod
    def start(
        cls, backend: Backend, folder: Folder, plan: Document, log: LogStream, temporary: str | None = None
    ) -> Container:
        """Stage a container in a new folder and start it.

        Args:
            backend: The backend.
            folder: Deleted when the container has ended.
            plan: What it runs.
            log: What it prints goes there.
            temporary: Its TMPDIR, made here; None makes one up.

        Raises:
            StartError: Its image or its model can't be used here.
        """
        temporary = temporary or str(Path(tempfile.gettempdir(), f"medloop-{new_id()}"))
        relay = None
        try:
            launch = _stage(backend, folder, plan, temporary)
            if launch.program is not None and is_supported():
                relay = Relay.start(folder)
            port = _free_port() if relay is None else relay.port
            launch = launch if relay is not None else _listening(launch, port)
            process = start_program(backend.home, folder, launch, log, with_parent=True)
        except (StagingError, ServiceError, OSError) as error:
            if relay is not None:
                relay.close()
            folder.clear(temporary)
            raise StartError(str(error)) from error
        assert process.stdout is not None  # noqa: S101 (an invariant of PIPE)
        threading.Thread(target=log.follow, args=(process.stdout,), daemon=True).start()
        return cls(plan, folder, process, port, log, temporary, launch.program is not None, relay)

    @property
    def variant(self) -> str:
        """The name of the variant that it serves."""
        return str(self.plan["variant"]["VariantName"])

    @property
    def address(self) -> Document:
        """The port for a client, and the process by which the client knows that it is still this container."""
        return {
            "process": processes.identity(self.process.pid),
            "port": self.port,
            "in_use": str(self.folder.root / _IN_USE),
        }

    @property
    def running(self) -> bool:
        """True if its first process runs."""
        return self.process.poll() is None

    def wait_healthy(self, may_continue: Callable[[], bool]) -> None:
        """Wait until /ping returns 200.

        Args:
            may_continue: Called at every poll; False gives up.

        Raises:
            StartError: It ended, or never responded.
            GivenUpError: `may_continue` returned False.
        """
        deadline = time.monotonic() + self.plan["startup"]
        while not self.healthy():
            if not self.running:
                raise StartError(f"{self._did_not_pass()} The container exited with code {self.process.returncode}.")
            if not may_continue():
                raise GivenUpError
            if time.monotonic() > deadline:
                raise StartError(self._did_not_pass())
            time.sleep(_POLL_SECONDS)

    def healthy(self) -> bool:
        """True if /ping returns 200, and from this container."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PING_SECONDS)
        try:
            connection.request("GET", "/ping")
            responds = connection.getresponse().status == 200
            return responds and (self.running if self.published else self._listens())
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def busy(self) -> bool:
        """True if a client waits for its response."""
        try:
            with (self.folder.root / _IN_USE).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:  # the home was deleted
            return False
        return False

    def retire(self) -> None:
        """End it once it has finished its requests: no client sends new ones after the record names another."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while self.running and self.busy() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        self.end()

    def end(self) -> None:
        """End it and all that it started, and delete its folders."""
        if self.running:
            self.process.signal_group(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_GRACE_SECONDS)
        if self.running:
            self.process.signal_group(signal.SIGKILL)
            self.process.wait()
        self.folder.clear(self.temporary)
        if self.relay is not None:
            self.relay.close()

    def _did_not_pass(self) -> str:
        last = _last_line(self.log.path)
        return (
            f"The primary container for production variant {self.variant} did not pass the ping health check. "
            f"Please check CloudWatch logs for this endpoint.{f' Its last line: {last}' if last else ''}"
        )

    def _listens(self) -> bool:
        """True if the port is this container's: another process may have taken it between two polls."""
        with suppress(psutil.Error):
            first = psutil.Process(self.process.pid)
            for process in [first, *first.children(recursive=True)]:
                for connection in process.net_connections(kind="tcp"):
                    if connection.status == psutil.CONN_LISTEN and connection.laddr.port == self.port:
                        return True
        return False


def clear_endpoint(folder: Path) -> None:
    """End the containers that an earlier supervisor left below an endpoint's folder, and delete it."""
    for container in folder.glob("*"):
        temporary = container / "temporary"
        Folder(container).clear(temporary.read_text() if temporary.is_file() else "")
    shutil.rmtree(folder, ignore_errors=True)


def unpack_model(backend: Backend, url: str, target: Path) -> None:
    """Unpack a model.tar.gz: plain files inside the folder only, within limits of size and number.

    Raises:
        StagingError: It is not there, is damaged or dangerous, or is too large.
    """
    try:
        unpack(backend.objects.head(*split_uri(url)).path, target, Limits(MAX_MODEL_BYTES, MAX_MODEL_FILES))
    except ServiceError as error:
        raise StagingError(f"Could not find model data at {url}") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StagingError("no space left on the disk while the model was unpacked; free some") from error
        raise StagingError(f"the model {url} can't be unpacked: {error}") from error
    except ArchiveError as error:
        raise StagingError(f"the model {url} can't be unpacked: {error}") from error


def _stage(backend: Backend, folder: Folder, plan: Document, temporary: str) -> Launch:
    for name in ("ml/model", "code", "site"):
        (folder.root / name).mkdir(parents=True)
    (folder.root / "temporary").write_text(temporary)
    (folder.root / _IN_USE).touch()
    name = unpack_image(backend, plan["image"], folder.root / "code")
    if plan["data"]:
        unpack_model(backend, plan["data"], folder.ml / "model")
    write_site(backend, folder, [], [])
    variables = {key: str(value) for key, value in plan["environment"].items()}
    env = environment(folder, temporary, variables, max(1, len(os.sched_getaffinity(0))))
    launch = Launch([sys.executable, f"containers/{name}/main.py", "serve"], env, folder.root / "code")
    if backend.runtime == PROCESS:
        return launch
    threads = thread_variables(max(1, len(os.sched_getaffinity(0))))
    program = Program(backend.runtime, name, local_image(plan["image"]), ["serve"], variables=threads | variables)
    return replace(launch, program=program)


def _listening(launch: Launch, port: int) -> Launch:
    """The start of a container that responds on this port of the host."""
    if launch.program is not None:
        return replace(launch, program=replace(launch.program, port=port))
    return replace(launch, env={**launch.env, "SAGEMAKER_BIND_TO_PORT": str(port)})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _last_line(path: Path) -> str:
    time.sleep(_POLL_SECONDS)  # the thread that follows the process may be a moment behind
    try:
        lines: list[Any] = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return str(lines[-1]).partition(" ")[2][:300] if lines else ""
