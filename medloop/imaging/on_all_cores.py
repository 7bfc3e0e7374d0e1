"""A function applied to many values on all cores: in their order, with bounded memory, and ending with its caller.

Processes, as most of a small image's time is Python's own and threads would share it. They are forked, so that they
start within milliseconds, and only where the work takes longer than starting them: the first values are computed by
the caller, and decide.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

In = TypeVar("In")
Out = TypeVar("Out")
TRIAL_SECONDS = 0.1
"""Time after which the rest of the work is estimated."""
WORTH_SECONDS = 0.5
"""Estimated time of the rest from which other cores take part."""
_BATCH_SECONDS = 0.05
_MAX_BATCH = 256
_BATCHES_EACH = 2
"""Batches of each process that are computed, or wait, at once."""


def num_cores() -> int:
    """Cores that this process may use; in SageMaker's processing container, the instance's."""
    return len(os.sched_getaffinity(0))


def on_all_cores(
    function: Callable[[In], Out],
    values: Sequence[In],
    max_workers: int | Callable[[], int] | None = None,
    worth: float = WORTH_SECONDS,
) -> Iterator[Out]:
    """Apply a function to values; the results are the same for any number of cores.

    Args:
        function: Its results are picklable. What it raises is raised here, at its value's turn.
        values: What it is applied to.
        max_workers: Processes, or a function that is called before there are any; one a core by default.
        worth: Estimated seconds of work from which there are other processes.

    Yields:
        The results in the values' order. Only few are computed before they are taken.
    """
    workers = max_workers if isinstance(max_workers, int) else num_cores()
    started = time.perf_counter()
    for done, value in enumerate(values):
        seconds = (time.perf_counter() - started + 1e-9) / max(1, done)
        if workers > 1 and seconds * done >= min(TRIAL_SECONDS, worth) and seconds * (len(values) - done) >= worth:
            if callable(max_workers):
                workers, max_workers = max_workers(), None
            if workers > 1:
                batch = max(1, min(_MAX_BATCH, int(_BATCH_SECONDS / seconds)))
                yield from _in_processes(_Work(function, values), done, workers, batch)
                return
        yield function(value)


class _Work(Generic[In, Out]):
    """A function and its values, which processes have from their caller's memory: neither is ever pickled."""

    current: _Work[Any, Any]
    """In a process: its own."""

    def __init__(self, function: Callable[[In], Out], values: Sequence[In]) -> None:
        self.function, self.values = function, values

    def part(self, start: int, stop: int) -> list[Out]:
        """The results of some values."""
        return [self.function(self.values[index]) for index in range(start, min(stop, len(self.values)))]


def _in_processes(work: _Work[In, Out], start: int, workers: int, batch: int) -> Iterator[Out]:
    """Apply a function in processes; if one is killed, as for lack of memory, the rest is computed by the caller."""
    import multiprocessing  # with concurrent.futures 30 ms, which small data sets don't pay
    from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor

    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _begin, (work,))
    starts = iter(range(start, len(work.values), batch))
    futures: deque[Future[list[Out]]] = deque()
    try:
        while True:
            for first in islice(starts, _BATCHES_EACH * workers - len(futures)):
                futures.append(pool.submit(_part, first, first + batch))
            if not futures:
                return
            results = futures.popleft().result()
            start += len(results)
            yield from results
    except BrokenProcessPool:
        yield from map(work.function, islice(work.values, start, None))
    finally:
        pool.shutdown(cancel_futures=True)


def _part(start: int, stop: int) -> list[Any]:
    return _Work.current.part(start, stop)


def _begin(work: _Work[Any, Any]) -> None:
    """Take over the work. The caller's memory is shared as long as no garbage collection looks through it."""
    gc.freeze()
    _Work.current = work
    _follow_caller()


def _follow_caller() -> None:
    """Let a process end with its caller, however that ends, and by no signal that is meant for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the caller, which ends the pool
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_caller, daemon=True).start()


def _end_with_caller() -> None:
    from multiprocessing import parent_process

    if caller := parent_process():
        caller.join()
    os._exit(1)
