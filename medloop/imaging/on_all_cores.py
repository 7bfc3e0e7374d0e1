"""A function applied to many values on all cores: in their order, with bounded memory, and ending with its caller.

Processes, as most of a small image's time is Python's own and threads would share it. They are forked, so that they
start within milliseconds, and only where the work takes longer than starting them: the first values are computed by
the caller, and decide.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

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
    values: Iterable[In],
    num_values: int,
    max_workers: int | None = None,
    worth: float = WORTH_SECONDS,
) -> Iterator[Out]:
    """Apply a function to values; the results are the same for any number of cores.

    Args:
        function: A picklable function, with picklable results. What it raises is raised here, at its value's turn.
        values: What it is applied to, picklable; taken when they are needed.
        num_values: Their number.
        max_workers: Processes; one a core by default.
        worth: Estimated seconds of work from which there are other processes.

    Yields:
        The results in the values' order. Only few are computed before they are taken.
    """
    workers = num_cores() if max_workers is None else max_workers
    started, values = time.perf_counter(), iter(values)
    for done in range(num_values):
        seconds = (time.perf_counter() - started + 1e-9) / max(1, done)
        if workers > 1 and seconds * done >= min(TRIAL_SECONDS, worth) and seconds * (num_values - done) >= worth:
            batch = max(1, min(_MAX_BATCH, int(_BATCH_SECONDS / seconds)))
            yield from _in_processes(function, values, workers, batch)
            return
        yield function(next(values))


def _in_processes(function: Callable[[In], Out], values: Iterator[In], workers: int, batch: int) -> Iterator[Out]:
    """Apply a function in processes; if one is killed, as for lack of memory, the rest is computed by the caller."""
    import multiprocessing  # with concurrent.futures 30 ms, which small data sets don't pay
    from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor

    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), initializer=_follow_caller)
    batches: deque[list[In]] = deque()
    futures: deque[Future[list[Out]]] = deque()
    try:
        while True:
            while len(batches) < _BATCHES_EACH * workers and (taken := list(islice(values, batch))):
                batches.append(taken)
                futures.append(pool.submit(_apply, function, taken))
            if not batches:
                return
            results = futures.popleft().result()
            batches.popleft()
            yield from results
    except BrokenProcessPool:
        yield from map(function, chain(chain.from_iterable(batches), values))
    finally:
        pool.shutdown(cancel_futures=True)


def _apply(function: Callable[[In], Out], values: Sequence[In]) -> list[Out]:
    return [function(value) for value in values]


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
