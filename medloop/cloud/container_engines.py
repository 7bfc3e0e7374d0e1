"""Programs that build and push images: podman, buildah or Docker, the first that works here.

They take the same words for a build; what differs is in the table. SageMaker takes plain images alone: Docker's format,
without the attestations that Docker's builder would add as an index.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from medloop.errors import TargetError

Run = Callable[..., "subprocess.CompletedProcess[str]"]
PLATFORM: Final = "linux/amd64"
_STDERR: Final = 2
_LISTING: Final = """import json
from importlib.metadata import distributions
heads = [distribution.metadata for distribution in distributions() if distribution.metadata["Name"]]
fields = ("Name", "Version", "License-Expression", "License")
rows = [{field: head[field] for field in fields} | {"Classifier": head.get_all("Classifier")} for head in heads]
print(json.dumps(rows))
"""
"""Runs in the image; `pip inspect` lists License-Expression from a pip of 2024 only. An empty folder is no package."""


@dataclass(frozen=True)
class ContainerEngine:
    """An engine's command line.

    Args:
        name: The program.
        build: Options of `build`, beyond the common ones.
        push: Options of `push`.
        variables: Environment variables of each command.
        remove: The command that kills and removes a container at once; empty for an engine that runs no jobs.
        gpus: Options of `run` for all GPUs.
        is_host_root: Whether root in a container is the host's also for a user who isn't.
    """

    name: str
    build: tuple[str, ...] = ()
    push: tuple[str, ...] = ()
    variables: Mapping[str, str] | None = None
    remove: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    is_host_root: bool = False


ENGINES: Final = {
    engine.name: engine
    for engine in (
        ContainerEngine(
            "docker",
            variables={"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"},
            remove=("rm", "--force"),
            gpus=("--gpus=all",),
            is_host_root=True,
        ),
        ContainerEngine(
            "podman",
            ("--format", "docker"),
            ("--format", "v2s2"),
            remove=("rm", "--force", "--time=0"),
            gpus=("--device=nvidia.com/gpu=all",),
        ),
        ContainerEngine("buildah", ("--format", "docker"), ("--format", "v2s2")),
    )
}
"""In the order in which they are tried."""


def find_engine(name: str | None = None, run: Run = subprocess.run) -> ContainerEngine:
    """Return the engine of that name, or the first that is installed and responds: Docker may be without its daemon.

    Args:
        name: A key of ENGINES; None tries all.
        run: Runs a command; as `subprocess.run`.

    Raises:
        TargetError: None works here; the message names them.
    """
    if name is not None and name not in ENGINES:
        raise TargetError(f"container engine {name!r} is unknown; use one of {', '.join(ENGINES)}")
    for engine in [ENGINES[name]] if name else ENGINES.values():
        if _responds(engine, run):
            return engine
    tried = name or ", ".join(ENGINES)
    raise TargetError(f"no container engine works here (tried {tried}); install podman, or start Docker's daemon")


def run_engine(
    engine: ContainerEngine, arguments: Sequence[str], run: Run = subprocess.run, text: str | None = None
) -> None:
    """Run one of the engine's commands; its output goes to stderr: a command's own output may be JSON.

    Args:
        engine: The engine.
        arguments: The command's words after the program's name.
        run: Runs a command; as `subprocess.run`.
        text: Its standard input.

    Raises:
        TargetError: It fails; the message names the command, whose output is above it.
    """
    command = [engine.name, *arguments]
    done = run(command, input=text, text=True, check=False, env=_environment(engine), stdout=_STDERR)
    if done.returncode != 0:
        raise TargetError(f"`{' '.join(command[:3])}` failed (exit code {done.returncode}); see its output above")


def build_arguments(engine: ContainerEngine, context: Path, container: str, base: str, tag: str) -> list[str]:
    """Return the words of a container's build.

    Args:
        engine: The engine.
        context: A bundle, unpacked.
        container: The folder below `containers/`.
        base: The image to build on.
        tag: The image's name.
    """
    return [
        "build", *engine.build, "--platform", PLATFORM, "--build-arg", f"BASE_IMAGE={base}",
        "--file", str(context / "containers" / container / "Dockerfile"), "--tag", tag,
    ]  # fmt: skip


def list_packages(engine: ContainerEngine, image: str, run: Run = subprocess.run) -> str:
    """Return the metadata of the Python packages in a local image, those of its base among them: a JSON list.

    Raises:
        TargetError: The image doesn't start, or has no `python`.
    """
    inspect = ("-c", _LISTING)
    if engine.name == "buildah":
        container = _output(engine, ["from", image], run).strip()
        try:
            return _output(engine, ["run", container, "--", "python", *inspect], run)
        finally:
            _output(engine, ["rm", container], run)
    return _output(engine, ["run", "--rm", "--network", "none", "--entrypoint", "python", image, *inspect], run)


def _output(engine: ContainerEngine, arguments: Sequence[str], run: Run) -> str:
    done = run([engine.name, *arguments], stdout=subprocess.PIPE, text=True, check=False, env=_environment(engine))
    if done.returncode != 0:
        raise TargetError(f"`{engine.name} {arguments[0]}` failed (exit code {done.returncode}); see its output above")
    return done.stdout


def _responds(engine: ContainerEngine, run: Run) -> bool:
    try:
        done = run([engine.name, "info"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _environment(engine: ContainerEngine) -> dict[str, str]:
    return {**os.environ, **(engine.variables or {})}
