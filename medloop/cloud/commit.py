"""The commit that a definition is built from."""

from __future__ import annotations

import subprocess
from pathlib import Path

from medloop.checkout import REPOSITORY
from medloop.projects import source_folder

UNKNOWN = "none"
DIRTY = "-dirty"


def source_commit(module: str) -> str:
    """The commit of the project that a pipeline's module belongs to: a user's, or this checkout."""
    return checkout_commit(source_folder(module))


def checkout_commit(root: Path = REPOSITORY) -> str:
    """The commit's full hash, with `-dirty` where files differ from it or were added; `none` outside a checkout.

    Args:
        root: The checkout's own root: a folder within another project's checkout has no commit of its own.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    if top is None or commit is None or Path(top).resolve() != root.resolve():
        return UNKNOWN
    return commit + (DIRTY if _git(root, "status", "--porcelain") != "" else "")


def _git(root: Path, *arguments: str) -> str | None:
    """Run git and return its output; None if git is missing or fails."""
    try:
        command = ["git", "-C", str(root), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
