"""A copy of the checkout in a test's folder, to extend as in docs/extending.md and to run by its commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("medloop", "pipelines", "steps", "containers")


@dataclass
class Checkout:
    """A copy of the project's code.

    Args:
        root: The copy; nothing else is in it.
        home: Where its local runs are stored.
    """

    root: Path
    home: Path
    touched: set[str] = field(default_factory=set, init=False)
    """Files that were added or changed, relative to the root."""
    out: str = field(default="", init=False)
    err: str = field(default="", init=False)

    @classmethod
    def copy_to(cls, folder: Path) -> Checkout:
        """Copy the project's code into an empty folder."""
        root = folder / "checkout"
        for name in COPIED:
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        return cls(root, folder / "home")

    def add(self, path: str, text: str) -> None:
        """Add a new file."""
        file = self.root / path
        assert not file.exists(), f"{path} exists"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        self.touched.add(path)

    def insert(self, path: str, text: str, *, before: str) -> None:
        """Insert lines before the only line that begins with `before` (leading spaces included)."""
        lines = (self.root / path).read_text(encoding="utf-8").splitlines(keepends=True)
        (position,) = [number for number, line in enumerate(lines) if line.startswith(before)]
        lines[position:position] = [text if text.endswith("\n") else f"{text}\n"]
        (self.root / path).write_text("".join(lines), encoding="utf-8")
        self.touched.add(path)

    def replace(self, path: str, old: str, new: str) -> None:
        """Replace a text that occurs once."""
        content = (self.root / path).read_text(encoding="utf-8")
        assert content.count(old) == 1, f"{path} contains {old!r} {content.count(old)} times"
        (self.root / path).write_text(content.replace(old, new), encoding="utf-8")
        self.touched.add(path)

    def python(self, *argv: str) -> int:
        """Run Python with the copy's packages, store its output, and return the exit code."""
        environment = {**os.environ, "PYTHONPATH": str(self.root), "MEDLOOP_HOME": str(self.home)}
        done = subprocess.run(
            [sys.executable, *argv], cwd=self.root, env=environment, capture_output=True, text=True, timeout=600
        )
        self.out, self.err = done.stdout, done.stderr
        return done.returncode

    def medloop(self, *argv: str) -> int:
        """Run a command of the copy's command line."""
        return self.python("-m", "medloop.cli", *argv)

    def json(self, *argv: str) -> Any:
        """Run a command that must succeed with --json, and return its document."""
        assert self.medloop(*argv, "--json") == 0, self.err
        return json.loads(self.out)
