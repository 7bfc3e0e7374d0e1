"""SIGTERM for a container's first process, in a PID namespace as in a container: the kernel ignores it by default."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from medloop.bundle import REPOSITORY

NAMESPACE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
WAITING = """import time
from medloop.container.run import run
run(lambda: (print('ready', flush=True), time.sleep(60)), kind={!r})
"""
DUMB_INIT = Path(sys.executable).with_name("dumb-init")


def has_namespaces() -> bool:
    """True if this user may make a PID namespace."""
    return shutil.which("unshare") is not None and subprocess.run([*NAMESPACE, "true"], check=False).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not has_namespaces(), reason="no PID namespaces here (util-linux's unshare, or the right to)"),
]


@contextlib.contextmanager
def first_process(*command: str) -> Iterator[tuple[subprocess.Popen[bytes], psutil.Process]]:
    """Start a command as process 1 of a namespace; `unshare` exits with its code."""
    with subprocess.Popen([*NAMESPACE, *command], stdout=subprocess.PIPE, cwd=REPOSITORY) as outside:
        try:
            yield outside, child_of(psutil.Process(outside.pid))
        finally:
            outside.kill()


def child_of(parent: psutil.Process) -> psutil.Process:
    """A process's first child, which is on its way."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if children := parent.children():
            return children[0]
    raise AssertionError("no child in 20 s")


@pytest.mark.parametrize(("container", "delay"), [("split", 0.0), ("classify", 0.02), ("serve", 0.1)])
def test_sigterm_in_the_first_moments_ends_the_container(container: str, delay: float) -> None:
    """While Python starts and imports, before any handler is there: with the image's first process none is lost."""
    program = f"containers/{container}/main.py"
    with first_process(str(DUMB_INIT), "--single-child", "--", sys.executable, program) as (outside, init):
        child_of(init)
        time.sleep(delay)
        init.send_signal(signal.SIGTERM)
        assert outside.wait(20) == 143


@pytest.mark.parametrize("kind", ["processing", "training"])
def test_sigterm_ends_a_job_that_is_the_first_process(kind: str) -> None:
    """A request's own entry point replaces the image's, and with it the first process."""
    with first_process(sys.executable, "-c", WAITING.format(kind)) as (outside, job):
        assert outside.stdout is not None
        assert outside.stdout.readline() == b"ready\n"
        job.send_signal(signal.SIGTERM)
        assert outside.wait(20) == 143
