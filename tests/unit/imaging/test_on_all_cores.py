"""Work on all cores: results, order, memory and ends are those of one process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from medloop.imaging.on_all_cores import on_all_cores

ENDLESS = """
import os, time
from medloop.imaging.on_all_cores import on_all_cores

def work(value):
    if value:
        time.sleep(60)
    return os.getpid()

for pid in on_all_cores(work, [0] * 2 + [1] * 1000, max_workers=3, worth=0):
    print(pid, flush=True)
"""
started = multiprocessing.Value("i", 0)


def square(value: int) -> tuple[int, int]:
    """A value's square, and the process that computed it."""
    return value * value, os.getpid()


def count(value: int) -> int:
    """Count the values that were begun, in any process."""
    with started.get_lock():
        started.value += 1
    time.sleep(0.001)
    return value


def die_elsewhere(caller: int, value: int) -> int:
    """Kill this process at one value, unless it is the caller."""
    if value == 700 and os.getpid() != caller:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def refuse(value: int) -> int:
    """Raise at two values."""
    if value in (300, 900):
        raise ValueError(f"value {value}")
    return value


class LocalError(Exception):
    """An error that can't be unpickled: it is made of other arguments than it has."""

    def __init__(self, value: int, reason: str) -> None:
        super().__init__(f"{value} {reason}")


def refuse_locally(value: int) -> int:
    """Raise what can't be unpickled, at two values."""
    if value in (300, 900):
        raise LocalError(value, "is refused")
    return value


def enlarge(value: int) -> bytes:
    """Return more than a pipe takes at once."""
    return bytes([value % 251]) * 100_000


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("size", [0, 1, 7, 1000])
def test_results_are_in_order_for_any_number_of_cores(workers: int, size: int) -> None:
    """Nothing is lost, repeated or swapped."""
    results = [result for result, _ in on_all_cores(square, range(size), workers, worth=0)]
    assert results == [value * value for value in range(size)]


def test_what_is_done_need_not_be_pickled() -> None:
    """Processes have the function and the values from their caller's memory."""
    values = [lambda number=number: number for number in range(1000)]
    assert list(on_all_cores(lambda value: value(), values, 2, worth=0)) == list(range(1000))


def test_other_processes_only_for_enough_work() -> None:
    """Little work stays in this process; much goes to others."""
    assert {pid for _, pid in on_all_cores(square, range(2000), 2)} == {os.getpid()}
    assert os.getpid() not in {pid for _, pid in on_all_cores(square, range(2000), 2, worth=0)}


def test_one_core_has_no_other_process() -> None:
    """A process of its own would only cost."""
    assert {pid for _, pid in on_all_cores(square, range(2000), 1, worth=0)} == {os.getpid()}


def test_an_error_is_raised_at_its_turn() -> None:
    """The results before it are there, in order; the first error counts."""
    results: list[int] = []
    with pytest.raises(ValueError, match="value 300"):
        results.extend(on_all_cores(refuse, range(1000), 2, worth=0))
    assert results == list(range(len(results)))


def test_an_error_need_not_be_pickled() -> None:
    """It has its own type and traceback."""
    with pytest.raises(LocalError, match="300 is refused") as error:
        list(on_all_cores(refuse_locally, range(1000), 2, worth=0))
    assert error.traceback[-1].name == "refuse_locally"


def test_results_may_be_large() -> None:
    """Larger than what a pipe takes at once."""
    results = on_all_cores(enlarge, range(300), 3, worth=0)
    assert all(result == enlarge(value) for value, result in enumerate(results))


def test_nothing_is_left_open() -> None:
    """No pipe and no process remains, whether all results are taken or few, or an error ends the work."""
    before, children = (
        sorted(os.listdir("/proc/self/fd")),
        psutil.Process().children(),
    )  # another test's, such as the CDK's
    assert len(list(on_all_cores(abs, range(1000), 3, worth=0))) == 1000
    few = on_all_cores(abs, range(10_000), 3, worth=0)
    assert [next(few) for _ in range(3)] == [0, 1, 2]
    few.close()
    with pytest.raises(ValueError, match="value 300"):
        list(on_all_cores(refuse, range(1000), 3, worth=0))
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert psutil.Process().children() == children


def test_a_killed_process_loses_nothing() -> None:
    """What a process that was killed for lack of memory should have computed, the caller computes."""
    assert list(on_all_cores(partial(die_elsewhere, os.getpid()), range(1500), 2, worth=0)) == list(range(1500))


def test_results_do_not_pile_up() -> None:
    """A slow consumer isn't overtaken by more than a few batches."""
    results = on_all_cores(count, range(100_000), 2, worth=0)
    next(results)
    time.sleep(0.1)
    results.close()
    assert started.value <= 6 * 256


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, *(pytest.param(kind, marks=pytest.mark.slow) for kind in (signal.SIGTERM, signal.SIGINT))],
)
def test_processes_end_with_their_caller(number: signal.Signals, tmp_path: Path) -> None:
    """However the caller ends, no process is left."""
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    caller = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    children = _children(caller.pid)
    caller.send_signal(number)
    if number is signal.SIGINT:
        for child in children:  # as Ctrl-C does, which reaches all
            child.send_signal(number)
        time.sleep(0.2)
        caller.kill()  # it waits for the batch
    caller.wait()
    assert children
    assert psutil.wait_procs(children, timeout=5)[1] == []


def _children(pid: int) -> list[psutil.Process]:
    deadline = time.monotonic() + 30
    while len(children := psutil.Process(pid).children()) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    return children


@pytest.mark.parametrize(("workers", "has_processes"), [(1, False), (2, True)])
def test_the_number_of_processes_is_computed_once_and_late(workers: int, has_processes: bool) -> None:
    """It may be costly to find: not for few values; with one, this process computes all."""
    calls: list[int] = []

    def count() -> int:
        calls.append(workers)
        return workers

    assert list(on_all_cores(abs, [-1, 2], count)) == [1, 2]
    assert calls == []
    pids = list(on_all_cores(lambda _: os.getpid(), range(50), count, worth=0.0))
    assert calls == [workers]
    assert (set(pids) != {os.getpid()}) == has_processes
