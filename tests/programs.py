"""Containers' programs, forked as the local backend's warm jobs are: torch and MONAI are imported once for all of them.

A program can't tell a warm start from a cold one (tests/unit/local/test_warm.py). Each container also starts cold in
tests/containers or tests/endtoend.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from medloop.local.jobs import job_site
from medloop.local.jobs.folders import Folder, Launch
from medloop.local.jobs.staging import environment
from medloop.local.jobs.warm import WarmProcess, start_program
from medloop.local.processes import Process
from medloop.local.state.home import Home
from medloop.local.state.log_streams import LogStream
from tests.shared import share_warm_servers

ROOT = Path(__file__).resolve().parents[1]


class Program:
    """A running program; what it prints goes to a file.

    Args:
        process: The program.
        log: The file.
    """

    def __init__(self, process: Process, log: Path) -> None:
        self.pid, self.log = process.pid, log
        self._process = process
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()

    def _write(self) -> None:
        assert self._process.stdout is not None
        with self.log.open("w", encoding="utf-8") as file:
            for line in self._process.stdout:
                file.write(line)
                file.flush()

    @property
    def returncode(self) -> int | None:
        """None before it was seen to have ended."""
        return self._process.returncode

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.signal_group(signal.SIGTERM)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and the end of its output."""
        code = self._process.wait(timeout)
        self._writer.join(timeout)
        return code


@dataclass(frozen=True)
class Programs:
    """Starts programs by one home's servers.

    Args:
        home: The home.
    """

    home: Path

    @classmethod
    def sharing(cls, factory: pytest.TempPathFactory) -> Programs:
        """With the servers that all workers and folders of tests share."""
        home = factory.mktemp("home")
        share_warm_servers(factory, home)
        return cls(home)

    def start(self, log: Path, main: str, *arguments: str, code: Path = ROOT, **variables: str) -> Program:
        """Start a container's program.

        Args:
            log: Gets what it prints.
            main: Its file, relative to `code`.
            arguments: Its arguments.
            code: The checkout that it runs from.
            variables: Of its environment.
        """
        folder = self._stage(code)
        env = environment(folder, str(folder.root / "t"), {}, threads=1) | variables
        launch = Launch([sys.executable, main, *arguments], env, folder.root / "code")
        cold = LogStream(folder.root / "cold")
        process = start_program(Home(self.home), folder, launch, cold)
        assert isinstance(process, WarmProcess), cold.path.read_text(encoding="utf-8")
        return Program(process, log)

    def run(self, main: str, *arguments: str, code: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; standard output and error are one text."""
        log = Path(tempfile.mkdtemp(dir=self.home)) / "log"
        ended = self.start(log, main, *arguments, code=code, **variables).wait(300)
        return subprocess.CompletedProcess([main, *arguments], ended, log.read_text(encoding="utf-8"), "")

    def _stage(self, code: Path) -> Folder:
        """The folder of a program, as the local backend stages it, with the checkout in place of a bundle."""
        folder = Folder(Path(tempfile.mkdtemp(dir=self.home)))
        (folder.root / "code").symlink_to(code)
        (folder.root / "site").mkdir()
        shutil.copyfile(job_site.__file__, folder.root / "site" / "sitecustomize.py")
        settings = {"code": str(code), "checkout": str(ROOT), "protected": [], "allowed": []}
        (folder.root / "site" / "job_site.json").write_text(json.dumps(settings), encoding="utf-8")
        return folder
