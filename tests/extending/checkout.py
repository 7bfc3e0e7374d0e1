"""A copy of the checkout in a test's folder, to extend as in docs/extending.md and to run by its commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medloop.cloud.target import sdk_variables
from medloop.local.state.home import REGION

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
    interpreter: subprocess.Popen[str] | None = field(default=None, init=False)
    """Runs the commands, if one was started; otherwise each is a process of its own."""

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
        if self.interpreter is not None:
            return self._fork(self.interpreter, argv)
        done = subprocess.run(
            [sys.executable, *argv], cwd=self.root, env=self._environment(), capture_output=True, text=True, timeout=600
        )
        self.out, self.err = done.stdout, done.stderr
        return done.returncode

    @contextmanager
    def sharing_the_sdk(self) -> Iterator[None]:
        """Import the SDK once for all commands until the end: it takes each 2 s of CPU time to build a definition."""
        command = [sys.executable, str(Path(__file__).with_name("interpreter.py"))]
        environment = self._environment() | sdk_variables() | {"AWS_DEFAULT_REGION": REGION}
        with subprocess.Popen(
            command, cwd=self.root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as self.interpreter:
            yield
            assert self.interpreter.stdin is not None
            self.interpreter.stdin.close()
        self.interpreter = None

    def _fork(self, interpreter: subprocess.Popen[str], argv: Sequence[str]) -> int:
        assert interpreter.stdin is not None
        assert interpreter.stdout is not None
        out, err = (self.root.with_name(name) for name in ("out", "err"))
        interpreter.stdin.write(json.dumps({"argv": argv, "out": str(out), "err": str(err)}) + "\n")
        interpreter.stdin.flush()
        code = int(interpreter.stdout.readline())
        self.out, self.err = out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")
        return code

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.root), "MEDLOOP_HOME": str(self.home)}

    def medloop(self, *argv: str) -> int:
        """Run a command of the copy's command line."""
        return self.python("-m", "medloop.cli", *argv)

    def json(self, *argv: str) -> Any:
        """Run a command that must succeed with --json, and return its document."""
        assert self.medloop(*argv, "--json") == 0, self.err
        return json.loads(self.out)
