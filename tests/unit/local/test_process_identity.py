"""A record names one process: a set clock, a reused number, another host or another container doesn't change which."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from medloop.commands.execution_status import seconds_between
from medloop.local.engine import executions
from medloop.local.hosting import endpoints
from medloop.local.jobs.job import PROCESSING, Job
from medloop.local.process_identity import RUNNER, Identity, ProcessTable, is_past, make_deadline, name_lock, open_lock
from medloop.local.processes import alive, identity, own_identity
from medloop.local.state.backend import Backend
from medloop.local.state.home import Home
from medloop.local.tuning.tuning_jobs import TUNING, TuningJob

BOOT, NAMESPACE = "0b1c2d3e-0000-4000-8000-000000000001", "pid:[4026531836]"
STEPS = (2.0, -2.0, 3600.0, -7200.0, 40 * 365 * 86400.0)
"""Seconds by which the wall clock is set: NTP, summer time in a virtual machine, a battery that ran out."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(tmp_path / "home")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A real process."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def fake_table(proc: Path, *, boot: str = BOOT, namespace: str = NAMESPACE) -> ProcessTable:
    """An empty proc file system."""
    (proc / "sys/kernel/random").mkdir(parents=True)
    (proc / "sys/kernel/random/boot_id").write_text(f"{boot}\n")
    (proc / "self/ns").mkdir(parents=True)
    (proc / "self/ns/pid").symlink_to(namespace)
    return ProcessTable(proc)


def put(table: ProcessTable, pid: int, ticks: int, state: str = "S", program: str = "python") -> None:
    """Add a process, or replace the one with its number."""
    (table.proc / str(pid)).mkdir(exist_ok=True)
    fields = [str(number) for number in range(4, 53)]
    fields[22 - 4] = str(ticks)
    (table.proc / str(pid) / "stat").write_text(f"{pid} ({program}) {state} {' '.join(fields)}\n")


@pytest.mark.parametrize("seconds", STEPS)
def test_a_set_clock_ends_no_process(home: Home, sleeper: subprocess.Popen[bytes], seconds: float) -> None:
    """The start in seconds of the wall clock differs from what was recorded; the process is the same."""
    record = identity(sleeper.pid)
    assert alive(record | {"started": record["started"] + seconds}, home)
    sleeper.kill()
    sleeper.wait()
    assert not alive(record, home)


@pytest.mark.parametrize("seconds", STEPS)
def test_a_set_clock_ends_nothing_that_runs(tmp_path: Path, seconds: float) -> None:
    """A reader after the step leaves executions, jobs, tuning jobs and endpoints unchanged."""
    backend = Backend.open(tmp_path / "home")
    process = own_identity()
    process["started"] += seconds
    execution = {"PipelineExecutionArn": "a", "PipelineExecutionStatus": "Executing", "_engine": process}
    assert executions.reap(backend, execution) == execution
    for kind, handle in ((PROCESSING, Job), (TUNING, TuningJob)):
        job = {kind.status: "InProgress", "_supervisor": process}
        assert handle(backend, kind, "j").reap(job) == job
    endpoint = {"EndpointName": "e", "EndpointStatus": "InService", "_supervisor": process}
    assert endpoints.revive(backend, endpoint) == endpoint


def test_a_zombie_and_a_reused_number_are_not_the_process(home: Home, tmp_path: Path) -> None:
    """A process that took the number later has other ticks; a zombie has ended."""
    table = fake_table(tmp_path / "proc")
    put(table, 7, 100)
    record = table.identity(7)
    assert table.is_alive(record, home)
    assert table.is_visible(record)
    put(table, 7, 100, state="Z")
    assert not table.is_alive(record, home)
    put(table, 7, 101)
    assert not table.is_alive(record, home)
    assert not table.is_visible(record)


@pytest.mark.parametrize("program", ["python", "a b", "x) Z 1 2 3", "(", ") R 5"])
def test_a_program_name_does_not_shift_the_fields(home: Home, tmp_path: Path, program: str) -> None:
    """The name in parentheses may contain spaces and parentheses."""
    table = fake_table(tmp_path / "proc")
    put(table, 7, 100, program=program)
    assert table.identity(7)["ticks"] == 100
    assert table.is_alive(table.identity(7), home)


def test_a_reboot_ends_all_processes(home: Home, tmp_path: Path) -> None:
    """After it another process may have the same number and even the same ticks."""
    before = fake_table(tmp_path / "before")
    after = fake_table(tmp_path / "after", boot="0b1c2d3e-0000-4000-8000-000000000002")
    for table in (before, after):
        put(table, 7, 100)
    assert not after.is_alive(before.identity(7), home)


@pytest.mark.parametrize(
    ("boot", "namespace"),
    [(BOOT, "pid:[4026532999]"), ("0b1c2d3e-0000-4000-8000-000000000003", NAMESPACE)],
    ids=["another container", "another host"],
)
def test_a_process_elsewhere_is_known_by_its_lock(home: Home, tmp_path: Path, boot: str, namespace: str) -> None:
    """A reader that can't see a process tells by the lock that it runs, and never signals its number."""
    local_table, elsewhere = fake_table(tmp_path / "a"), fake_table(tmp_path / "b", boot=boot, namespace=namespace)
    with open_lock(home) as lock:
        inherited = (lock.fileno(),)
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=inherited)
        put(local_table, process.pid, 100)
        record = local_table.identity(process.pid)
        name_lock(lock, record, home)
    put(elsewhere, process.pid, 100)
    with process:
        assert elsewhere.is_alive(record, home)
        assert not elsewhere.is_visible(record)
        process.kill()
    assert not elsewhere.is_alive(record, home)
    with open_lock(home) as another:  # removes the files of processes that have ended
        assert [path.name for path in (home.root / "processes").iterdir()] == [Path(another.name).name]


def test_records_of_earlier_versions_are_read(home: Home, sleeper: subprocess.Popen[bytes]) -> None:
    """They have a start time only; a process that isn't a runner must have started at that time."""
    record = {key: identity(sleeper.pid)[key] for key in ("pid", "started")}
    assert alive(record, home)
    assert not alive(record | {"started": record["started"] - 7200}, home)
    assert not alive({"pid": 2**22 + 1, "started": 0.0}, home)
    assert not alive({"pid": os.getpid(), "started": 0.0}, home)
    assert not alive(None, home)


@pytest.mark.parametrize("seconds", STEPS)
def test_a_set_clock_ends_no_runner_of_an_earlier_version(home: Home, seconds: float) -> None:
    """A runner with the recorded number is taken for the recorded one."""
    argv = [sys.executable, "-c", "print(flush=True); input()", RUNNER, "arn"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as runner:
        assert runner.stdout is not None
        runner.stdout.readline()  # it has its command line by then
        record: Identity = {"pid": runner.pid, "started": identity(runner.pid)["started"] + seconds}
        assert alive(record, home)
        runner.kill()
    assert not alive(record, home)


def test_without_a_proc_file_system_start_times_are_compared(home: Home, tmp_path: Path) -> None:
    """As on macOS."""
    table = ProcessTable(tmp_path / "absent")
    record = table.identity(os.getpid())
    assert set(record) == {"pid", "started"}
    assert table.is_alive(record, home)
    assert not table.is_alive(record | {"started": record["started"] + 60}, home)


@pytest.mark.parametrize("seconds", STEPS)
def test_a_set_clock_neither_ends_nor_extends_a_deadline(seconds: float) -> None:
    """Within a boot the boot's clock decides; a request of an earlier version has the wall clock's time only."""
    for left in (60.0, -60.0):
        deadline = make_deadline(left)
        assert is_past(deadline | {"expires": deadline["expires"] - seconds}) is (left < 0)
    assert is_past({"expires": time.time() - 1})
    assert not is_past({"expires": time.time() + 60})
    assert is_past(make_deadline(-60.0) | {"boot": "before the reboot"})


@pytest.mark.parametrize("seconds", [2, 7200])
def test_no_duration_is_negative(seconds: int) -> None:
    """A step that began before the clock was set back took no time, and cost nothing."""
    started = datetime(2026, 11, 30, tzinfo=UTC)
    assert seconds_between(started, started - timedelta(seconds=seconds)) == 0.0
    assert seconds_between(datetime.now(UTC) + timedelta(seconds=seconds), None) == 0.0
    assert seconds_between(started, started + timedelta(seconds=seconds)) == seconds
