"""A tiny data set, and the command line, in this process and as a process."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medloop.cli import main
from tests.shared import share_warm_servers


@dataclass
class CommandLine:
    """`medloop` with a separate home folder.

    Commands run in the tests' process, which has imported what they need: as a process, each takes 0.7 to 4 s more.
    `start` and README's walk (test_readme.py) run them as a process.
    """

    home: Path
    out: str = field(default="", init=False)
    err: str = field(default="", init=False)

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Start a command that handles Ctrl-C even if the tests run in the background (shells disable it there)."""
        environment = {**os.environ, "MEDLOOP_HOME": str(self.home), "OMP_NUM_THREADS": "2"}
        return subprocess.Popen(
            [sys.executable, "-m", "medloop.cli", *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def __call__(self, *argv: str) -> int:
        """Run a command to its end and store its output."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setenv("MEDLOOP_HOME", str(self.home))
            patch.setenv("OMP_NUM_THREADS", "2")
            code = main(argv)
        self.out, self.err = out.getvalue(), err.getvalue()
        return code

    def json(self, *argv: str) -> Any:
        """Run a command that must succeed with --json, and return its document."""
        assert self(*argv, "--json") == 0, self.err
        return json.loads(self.out)


@pytest.fixture(scope="module")
def medloop(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """The command line with a home path that contains a space and a non-ASCII letter."""
    home = tmp_path_factory.mktemp("home") / "größe 1" / ".medloop"
    share_warm_servers(tmp_path_factory, home)
    return CommandLine(home)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four noise images of 32 pixels in two classes that are easy to separate."""
    root = tmp_path_factory.mktemp("data") / "Bilder für alle"
    rng = np.random.default_rng(0)
    for name, level in (("dark", 50), ("bright", 180)):
        (root / name).mkdir(parents=True)
        for index in range(12):
            pixels = rng.integers(level, level + 40, (32, 32), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"patient {index}.png")
    return root
