"""The staged folder of a job or a container, and how what is staged there is started."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from medloop.container.paths import PREFIX
from medloop.local.errors import StagingError

_PREFIX = re.compile(rf"(?<![\w./-]){re.escape(PREFIX)}(?=/|$|[\s,;:'\"])")


@dataclass(frozen=True)
class Launch:
    """How a staged job is started."""

    argv: list[str]
    env: dict[str, str]
    cwd: Path


@dataclass(frozen=True)
class Folder:
    """A job's staged folder.

    Args:
        root: `<home>/jobs/<job>`.
    """

    root: Path

    @property
    def ml(self) -> Path:
        """What the job sees as /opt/ml."""
        return self.root / "ml"

    def local(self, path: str) -> Path:
        """The staged place of a path that a request spells below /opt/ml.

        Raises:
            StagingError: The path lies elsewhere.
        """
        relative = Path(path.removeprefix(PREFIX).strip("/"))
        if not (path == PREFIX or path.startswith(f"{PREFIX}/")) or ".." in relative.parts:
            raise StagingError(f"LocalPath '{path}' must lie below {PREFIX}")
        return self.ml / relative

    def rewrite(self, text: str, alias: Path | None = None) -> str:
        """Text with /opt/ml replaced by the staged folder, or by an alias of it."""
        return _PREFIX.sub(lambda _: str(alias or self.ml), text)
