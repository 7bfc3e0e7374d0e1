"""Runs a staged program in the image that AWS would run: its start becomes that of an engine's client.

The client is the job's process: what it prints is the log, it forwards SIGTERM, and its exit code is the container's.
The container has no network, a read-only root with /tmp writable, and no capabilities. Inputs are links, so what they
lead to is mounted at the same paths, read-only. The image is known by the digest of its code; where the engine doesn't
have it, it is built from the unpacked bundle, with the engine's output in the job's log.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil

from medloop.bundle import load_container
from medloop.cloud.container_engines import ContainerEngine, build_arguments, find_engine
from medloop.container.cluster import count_gpus
from medloop.container.paths import PREFIX
from medloop.errors import SettingError, TargetError
from medloop.local import processes
from medloop.local.errors import StagingError
from medloop.local.jobs.container_record import write_record
from medloop.local.jobs.folders import SERVING_PORT, Folder, Launch, Program
from medloop.local.state.home import Home
from medloop.local.state.log_streams import LogStream
from medloop.local.state.runtime import CONTAINER

OPTIONS_VARIABLE = "MEDLOOP_CONTAINER_OPTIONS"
"""More options of the engine's `run`, as in a shell: another GPU flag, a larger /dev/shm."""
_LIMITS = (
    *("--rm", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"),
    *("--security-opt=label=disable", "--tmpfs=/tmp:exec", "--pull=never", "--log-driver=none", "--hostname=algo-1"),
)
"""An image is never pulled: its name without a registry could be a stranger's. The engine keeps no log of its own.
What torch compiles is loaded from /tmp."""
_POLL_SECONDS = 0.1


def find_runner(runtime: str) -> ContainerEngine:
    """The engine of a runtime.

    Args:
        runtime: `container` for the first that works here, or an engine's name.

    Raises:
        TargetError: None works here, or it only builds.
    """
    engine = find_engine(None if runtime == CONTAINER else runtime)
    if not engine.remove:
        raise TargetError(f"{engine.name} builds images but doesn't run jobs in them; install podman or Docker")
    return engine


def contain(
    home: Home, folder: Folder, launch: Launch, program: Program, log: LogStream, is_cancelled: Callable[[], bool]
) -> Launch:
    """The start of the engine's client for a program; the image is built first where it isn't there.

    Args:
        home: The home.
        folder: Where the program is staged.
        launch: Its start as a process, of which the working folder stays.
        program: What runs in the container.
        log: Gets the output of a build.
        is_cancelled: Ends a build when true.

    Raises:
        StagingError: No engine works here, or the image can't be built.
    """
    try:
        engine = find_runner(program.runtime)
        _ensure_image(home, engine, folder.root / "code", program, log, is_cancelled)
    except (TargetError, SettingError) as error:
        raise StagingError(str(error)) from error
    name = write_record(folder.root, engine.name)
    env = {key: value for key, value in program.variables.items() if key not in os.environ}
    argv = [engine.name, "run", f"--name={name}", *_options(engine, folder, program), program.image]
    return replace(launch, argv=[*argv, *program.entry[1:], *program.arguments], env={**os.environ, **env})


def _options(engine: ContainerEngine, folder: Folder, program: Program) -> Iterator[str]:
    yield from _LIMITS
    yield f"--shm-size={psutil.virtual_memory().total // 2}"  # the engine's 64 MB are too few for loaders of volumes
    yield from _network(program)
    yield _mount(folder.ml, PREFIX, writable=True)
    for writable, paths in ((False, program.read), (True, program.written)):
        for path in paths:
            yield _mount(path, path, writable=writable)
    for name, value in sorted(program.variables.items()):
        # By name alone the value isn't in the list of processes; a variable of the client's own keeps its value there.
        yield f"--env={name}" if os.environ.get(name, value) == value else f"--env={name}={value}"
    if program.entry:
        yield f"--entrypoint={program.entry[0]}"
    if engine.is_host_root and os.geteuid() != 0:  # without capabilities, root can't write a user's folder
        yield f"--user={os.geteuid()}:{os.getegid()}"
    if count_gpus(os.environ):
        yield from engine.gpus
        yield "--env=CUDA_VISIBLE_DEVICES"
    yield from shlex.split(os.environ.get(OPTIONS_VARIABLE, ""))


def _network(program: Program) -> tuple[str, ...]:
    if program.port is not None:
        return (f"--publish=127.0.0.1:{program.port}:{SERVING_PORT}",)
    return ("--network=host",) if program.connects else ("--network=none",)


def _mount(source: Path, target: Path | str, *, writable: bool) -> str:
    """A bind mount. The engines separate a volume's parts by colons and a mount's by commas, and quote neither.

    Raises:
        StagingError: The path has both.
    """
    if "," not in f"{source}{target}":
        return f"--mount=type=bind,source={source},target={target}{'' if writable else ',readonly'}"
    if ":" in f"{source}{target}":
        raise StagingError(f"{source}: has a comma and a colon, which no engine mounts; rename the folder")
    return f"--volume={source}:{target}{'' if writable else ':ro'}"


def _ensure_image(
    home: Home, engine: ContainerEngine, code: Path, program: Program, log: LogStream, is_cancelled: Callable[[], bool]
) -> None:
    if _exists(engine, program.image):
        return
    with _locked(home.folder("images") / program.image.replace(":", "-"), is_cancelled):
        if is_cancelled() or _exists(engine, program.image):  # built by another job meanwhile
            return
        base = load_container(program.container, code).base
        log.write(f"medloop: {engine.name} builds the image {program.image} on {base}")
        argv = [engine.name, *build_arguments(engine, code, program.container, base, program.image), str(code)]
        began = time.monotonic()
        if (rc := _follow(argv, code, {**os.environ, **(engine.variables or {})}, log, is_cancelled)) != 0:
            raise TargetError(
                f"the image {program.image} can't be built (exit code {rc}); see the log, or build it on another base: "
                f"medloop images build {program.container} --base IMAGE"
            )
        log.write(f"medloop: the image was built in {time.monotonic() - began:.0f} s")


def _exists(engine: ContainerEngine, image: str) -> bool:
    command = [engine.name, "image", "inspect", image]
    quiet = subprocess.DEVNULL
    return subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, check=False).returncode == 0  # noqa: S603


def _follow(argv: list[str], cwd: Path, env: dict[str, str], log: LogStream, is_cancelled: Callable[[], bool]) -> int:
    """Run a build, its output in the log; returns its exit code."""
    process = processes.start(argv, cwd=cwd, env=env, with_parent=True)
    assert process.stdout is not None  # noqa: S101 (an invariant of PIPE)
    follower = threading.Thread(target=log.follow, args=(process.stdout,), daemon=True)
    follower.start()
    while not process.has_ended(_POLL_SECONDS):
        if is_cancelled():
            process.kill()
    follower.join(timeout=5)
    return process.wait()


@contextmanager
def _locked(path: Path, is_cancelled: Callable[[], bool]) -> Iterator[None]:
    """Hold an image's lock, so that one job builds it and the others wait."""
    with path.open("ab") as file:
        while not is_cancelled():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_POLL_SECONDS)
        yield
