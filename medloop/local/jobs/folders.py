"""The staged folder of a job or a container, and the command that starts the process in it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medloop.container.paths import PREFIX
from medloop.local import processes
from medloop.local.errors import StagingError
from medloop.local.jobs.container_record import remove_container

SERVING_PORT = 8080
"""Where a serving container listens, by SageMaker's contract."""
_PREFIX = re.compile(rf"(?<![\w./-]){re.escape(PREFIX)}(?=/|$|[\s,;:'\"])")


@dataclass(frozen=True)
class Program:
    """The program of a container: an image, and what the service gives it.

    Args:
        runtime: `container`, or an engine's name.
        container: The folder below `containers/`.
        image: `medloop-<container>:<digest of its code>`.
        arguments: The words after the entry point.
        entry: The entry point; empty for the image's own.
        variables: The environment, with paths below /opt/ml as the service has them.
        read: Folders to which links in the inputs lead.
        written: Folders outside the staged one that it may write.
        connects: Whether it needs the network: it reports to a tracking server.
        port: The host's port that the engine publishes for the server in it; None for a job, and for a server that is
            reached by a relay.
    """

    runtime: str
    container: str
    image: str
    arguments: Sequence[str]
    entry: Sequence[str] = ()
    variables: dict[str, str] = field(default_factory=dict)
    read: Sequence[Path] = ()
    written: Sequence[Path] = ()
    connects: bool = False
    port: int | None = None


@dataclass(frozen=True)
class Launch:
    """The start of a staged program.

    Args:
        argv: The command.
        env: The environment.
        cwd: The working folder.
        is_launcher: Whether it only starts others, as torchrun does, and so imports little itself.
        program: What runs in a container instead; None for a process.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: Path
    is_launcher: bool = False
    program: Program | None = None


@dataclass(frozen=True)
class Folder:
    """A staged folder: `<home>/jobs/<job>` of a job, `<home>/endpoints/<endpoint>/<id>` of a container."""

    root: Path

    @property
    def ml(self) -> Path:
        """The folder that the job sees as /opt/ml."""
        return self.root / "ml"

    def local(self, path: str) -> Path:
        """The staged location of a request's path below /opt/ml.

        Raises:
            StagingError: The path isn't below /opt/ml.
        """
        relative = Path(path.removeprefix(PREFIX).strip("/"))
        if not (path == PREFIX or path.startswith(f"{PREFIX}/")) or ".." in relative.parts:
            raise StagingError(f"LocalPath '{path}' must be below {PREFIX}")
        return self.ml / relative

    def end_all(self) -> None:
        """Kill what runs in it: processes, and its container."""
        processes.kill_strays(self.ml)
        remove_container(self.root)

    def clear(self, temporary: str) -> None:
        """Kill what runs in it and delete it, a process's own TMPDIR before; the folder itself comes last."""
        self.end_all()
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(self.root, ignore_errors=True)

    def rewrite(self, text: str, alias: Path | None = None) -> str:
        """Text with /opt/ml replaced by the staged folder, or by an alias of it."""
        return _PREFIX.sub(lambda _: str(alias or self.ml), text)
