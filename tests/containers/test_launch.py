"""Two processes through the real launcher: outputs, exit codes, failure file, signals. The program has a few lines."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from medloop.container.failures import TERMINATED
from tests.unit.local.conftest import wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROGRAM = '''
import os, sys, time
from pathlib import Path
from medloop.container.launch import launch
from medloop.container.metrics import report
from medloop.container.run import run
from medloop.errors import SettingError, Terminated
from medloop.training.spot_interruption import catch_sigterm

def main():
    launch("ddp", 2, sys.argv)
    rank, root = int(os.environ["RANK"]), Path(os.environ["ML_ROOT"])
    report(epoch=1, train_loss=0.5)
    print("threads:", os.environ["OMP_NUM_THREADS"], file=sys.stderr)
    WORK

def meet():
    """Join the other process, then wait for its end."""
    import torch.distributed as dist
    dist.init_process_group("gloo")
    dist.barrier()
    while os.environ["RANK"] == "0":
        dist.barrier()
    dist.destroy_process_group()

run(main, kind="training")
'''


@dataclass
class Ended:
    """How the launcher ended."""

    code: int
    out: str
    err: str
    failure: str | None


def start(root: Path, work: str, **more: str) -> subprocess.Popen[str]:
    """The program as a job, with more in its environment; both its outputs are piped."""
    (root / "ml" / "output").mkdir(parents=True)
    (root / "main.py").write_text(PROGRAM.replace("WORK", work), encoding="utf-8")
    env = {**os.environ, "ML_ROOT": str(root / "ml"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "4"}
    env |= {"CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(root), **more}
    command = [sys.executable, str(root / "main.py"), "train"]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(root: Path, process: subprocess.Popen[str]) -> Ended:
    """Wait for the end, of which nothing stays behind."""
    out, err = process.communicate(timeout=120)
    failure = root / "ml" / "output" / "failure"
    assert [path.name for path in root.iterdir() if path.name.startswith("medloop-")] == []
    assert ranks(root) == []
    return Ended(process.returncode, out, err, failure.read_text(encoding="utf-8") if failure.exists() else None)


def ranks(root: Path) -> list[psutil.Process]:
    """Processes of the program, its launcher aside."""
    processes = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if str(root / "main.py") in command and "medloop.container.torchrun" not in command:
            processes.append(process)
    return processes


def test_metrics_are_there_once_and_errors_say_whose_they_are(tmp_path: Path) -> None:
    """Tuning would take a metric's last value from whichever process was late; four threads are two for each."""
    ended = end(tmp_path, start(tmp_path, "pass"))
    assert (ended.code, ended.failure) == (0, None), ended.err
    assert ended.out.splitlines() == ["strategy=ddp: 2 processes (no GPU)", "epoch=1; train_loss=0.5;"]
    assert sorted(ended.err.splitlines()) == ["[rank 0] threads: 2", "[rank 1] threads: 2"]


def test_an_expected_error_of_one_process_is_one_line(tmp_path: Path) -> None:
    """The other one, which then waits for it in vain, has nothing to say; exit code 2."""
    ended = end(tmp_path, start(tmp_path, 'meet(); raise SettingError("epochs: too few")'))
    assert (ended.code, ended.failure) == (2, "epochs: too few"), ended.err
    assert [line for line in ended.err.splitlines() if "threads" not in line] == ["error: epochs: too few"]


def test_a_bug_of_one_process_keeps_its_traceback(tmp_path: Path) -> None:
    """The exception first; exit code 1."""
    ended = end(tmp_path, start(tmp_path, 'if rank == 1:\n        {}["lost"]\n    time.sleep(60)'))
    assert ended.code == 1
    assert str(ended.failure).startswith("KeyError: 'lost'\nTraceback")
    assert ended.err.count("Traceback") == 1


def test_a_killed_process_is_named(tmp_path: Path) -> None:
    """As the system does when memory runs out; the other one is ended."""
    ended = end(tmp_path, start(tmp_path, "if rank == 1:\n        os.kill(os.getpid(), 9)\n    time.sleep(60)"))
    assert ended.code == 128 + signal.SIGKILL
    assert str(ended.failure).startswith("rank 1 was killed by SIGKILL, most likely because the host's memory ran")
    assert "Traceback" not in ended.err


def test_two_hosts_meet_at_the_first(tmp_path: Path) -> None:
    """Of the same job on two hosts (here one), four processes know one another; the second host has no metrics."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    folders = {host: tmp_path / host for host in ("localhost", "of-two")}
    started = {}
    for host, folder in folders.items():
        folder.mkdir()
        names = {"SM_HOSTS": '["localhost", "of-two"]', "SM_CURRENT_HOST": host, "SM_NETWORK_INTERFACE_NAME": "lo"}
        started[host] = start(folder, MEETING, MASTER_PORT=port, **names)
    ended = {host: end(folders[host], process) for host, process in started.items()}
    assert [process.code for process in ended.values()] == [0, 0], ended
    assert ended["localhost"].out.splitlines()[1:] == ["epoch=1; train_loss=0.5;"]
    assert ended["of-two"].out.splitlines()[1:] == []
    assert sorted((tmp_path / "localhost").glob("sum-*")) == [tmp_path / "localhost" / "sum-6"]


MEETING = """
    import torch
    import torch.distributed as dist
    dist.init_process_group("gloo")
    total = torch.tensor([float(rank)])
    dist.all_reduce(total)
    if rank == 0:
        (root.parent / f"sum-{int(total)}").touch()
    dist.destroy_process_group()
"""
SAVING = """with catch_sigterm() as received:
        (root / f"ready-{rank}").touch()
        received.wait()
        (root / f"received-{rank}").touch()
        time.sleep(1)
        (root / f"saved-{rank}").touch()
        raise Terminated("stopped; the same job resumes")"""


def test_sigterm_lets_every_process_save(tmp_path: Path) -> None:
    """Sent again and again, to the launcher and then to a process of its own too: 143, and no failure."""
    process, ml = start(tmp_path, SAVING), tmp_path / "ml"
    wait_until(lambda: (ml / "ready-0").exists() and (ml / "ready-1").exists(), 60)
    workers = ranks(tmp_path)
    for _ in range(4):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.15)
    wait_until(lambda: (ml / "received-0").exists() and (ml / "received-1").exists())
    workers[0].send_signal(signal.SIGTERM)
    ended = end(tmp_path, process)
    assert (ended.code, ended.failure) == (TERMINATED, None), ended.err
    assert (ml / "saved-0").exists()
    assert (ml / "saved-1").exists()
    assert [line for line in ended.err.splitlines() if "threads" not in line] == ["stopped; the same job resumes"]


def test_sigterm_ends_what_has_nothing_to_save(tmp_path: Path) -> None:
    """While the launcher loads, before there are processes."""
    process = start(tmp_path, "time.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "strategy=ddp: 2 processes (no GPU)\n"
    process.send_signal(signal.SIGTERM)
    ended = end(tmp_path, process)
    assert (ended.code, ended.failure) == (TERMINATED, None)
    assert ended.err in ("", "stopped by SIGTERM\n")  # by launcher or entry point, whichever it met
