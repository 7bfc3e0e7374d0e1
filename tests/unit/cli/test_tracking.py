"""`medloop tracking ui`: a tool's own page, started and ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from medloop.commands.options import Services
from medloop.commands.tracking import HOST, TrackingPage, serve
from medloop.errors import TargetError


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


def test_nothing_tracked_yet_says_how_to_begin(medloop: Any) -> None:
    """For both tools."""
    assert medloop("tracking", "ui") == 2
    assert "run a pipeline with --param TrackingUri=local first" in medloop.err
    assert medloop("tracking", "ui", "--tensorboard") == 2
    assert "no training job has written event files here" in medloop.err


def test_a_port_that_is_taken_is_named() -> None:
    """Before anything is started."""
    with socket.create_server((HOST, 0)) as server:
        page = TrackingPage("MLflow", "json", ("false",), server.getsockname()[1])
        with pytest.raises(TargetError, match=rf"--port {page.port}: can't be used .*give another one"):
            serve(Services(), page)


def test_a_tool_that_is_not_installed_is_named() -> None:
    """With what installs it."""
    with pytest.raises(TargetError, match=r"MLflow is not installed; pip install 'medloop\[jobs\]'"):
        serve(Services(), TrackingPage("MLflow", "no_such_module", ("false",), free_port()))


def test_a_tool_that_does_not_start_says_why() -> None:
    """Its last line."""
    argv = (sys.executable, "-c", "print('first'); print('no such store'); raise SystemExit(3)")
    with pytest.raises(TargetError, match=r"MLflow didn't start: no such store"):
        serve(Services(), TrackingPage("MLflow", "json", argv, free_port()))


SERVER = """
import http.server, subprocess, sys
port = int(sys.argv[sys.argv.index("--port") + 1])
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("worker", "w").write(str(worker.pid))
http.server.HTTPServer(("127.0.0.1", port), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie doesn't)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_interrupting_it_ends_the_tool_with_its_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left behind, and nothing is raised."""
    monkeypatch.chdir(tmp_path)
    port = free_port()

    def interrupt() -> None:
        while True:
            try:
                socket.create_connection((HOST, port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    serve(Services(), TrackingPage("MLflow", "json", (sys.executable, "-c", SERVER), port))
    thread.join()
    worker = int((tmp_path / "worker").read_text())
    deadline = time.monotonic() + 10
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(worker)


@pytest.mark.slow
def test_mlflows_own_page_opens_on_the_local_store(tmp_path: Path) -> None:
    """By the command, as a user starts it: the page and the store's experiments are there."""
    from mlflow import MlflowClient

    (tmp_path / "mlflow").mkdir()
    MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow/mlflow.db").create_experiment("night")
    port = free_port()
    argv = [sys.executable, "-m", "medloop.cli", "tracking", "ui", "--port", str(port), "--home", str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as command:
        try:
            assert command.stdout is not None
            assert command.stdout.readline().startswith(f"MLflow: http://{HOST}:{port}")
            address = f"http://{HOST}:{port}/api/2.0/mlflow/experiments/get-by-name?experiment_name=night"
            with urllib.request.urlopen(address, timeout=60) as response:
                assert b'"name": "night"' in response.read()
        finally:
            command.send_signal(signal.SIGINT)
            assert command.wait(30) == 0
