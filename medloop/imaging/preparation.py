"""Data prepared by many threads, and once by the processes of a host together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from medloop.errors import DataError
from medloop.imaging.cache import Cache, TensorCheck, Tensors

In = TypeVar("In")
Out = TypeVar("Out")
Share = tuple[int, int]
"""(index among this host's processes, their number)."""
ALONE: Share = (0, 1)


def no_barrier() -> None:
    """Don't wait: the barrier of a single process."""


@dataclass(frozen=True)
class Item:
    """Data to prepare.

    Args:
        key: The entry's name; None where it can't be named (a source file can't be read, and `make` raises the reason).
        make: Computes it.
        check: Refuses an entry that can't be it.
    """

    key: str | None
    make: Callable[[], Mapping[str, Tensor]]
    check: TensorCheck | None = None

    def take(self, cache: Cache) -> Tensors:
        """From the cache, or made."""
        return dict(self.make()) if self.key is None else cache.take(self.key, self.make, self.check)


def prepare(
    items: Sequence[Item],
    cache: Cache,
    *,
    num_workers: int = 0,
    share: Share = ALONE,
    barrier: Callable[[], None] = no_barrier,
    title: str = "",
) -> list[Tensors]:
    """Prepare items; each is made by one of the host's processes, and mapped by all.

    Args:
        items: The same on all processes.
        cache: What processes hand each other data through.
        num_workers: Threads, each with one item; see `count_workers`.
        share: Which part this process makes.
        barrier: Waits for the host's other processes.
        title: Names the progress bar, which is shown on a terminal.

    Returns:
        The items' tensors, in order.

    Raises:
        DataError: An item can't be made: the first in order, on all processes.
    """
    from tqdm import tqdm  # trainings' images have it; evaluation and serving import this module without it

    index, number = share
    prepared: dict[int, Tensors] = {}

    def take(chosen: Sequence[int], shown: str) -> None:
        bar = tqdm(chosen, shown, disable=None if shown else True, leave=False)
        for k, tensors in zip(bar, pool.map(lambda k: items[k].take(cache), chosen), strict=True):
            prepared[k] = tensors

    with _pool(num_workers, share) as pool:
        if number > 1:
            # What can't be made is raised below, by each process at the first in order; the others wait till then.
            with suppress(DataError):
                take(range(index, len(items), number), title if index == 0 else "")
            barrier()
        take([k for k in range(len(items)) if k not in prepared], title if number == 1 else "")
    return [prepared[k] for k in range(len(items))]


def in_threads(function: Callable[[In], Out], values: Iterable[In], num_workers: int = 0) -> Iterator[Out]:
    """Apply a function in threads, in order, each thread at one value, and no result made long before it is taken.

    Args:
        function: What it raises is raised here, at its value's turn.
        values: What it is applied to.
        num_workers: Threads; see `count_workers`.
    """
    with _pool(num_workers, ALONE) as pool:
        waiting = []
        for value in values:
            waiting.append(pool.submit(function, value))
            if len(waiting) >= count_workers(num_workers):
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()


def count_workers(num_workers: int, share: Share = ALONE) -> int:
    """Number of threads; 0 selects the cores of this process, divided among the host's processes."""
    return num_workers or max(1, len(os.sched_getaffinity(0)) // share[1])


@contextmanager
def _pool(num_workers: int, share: Share) -> Iterator[Executor]:
    """Threads in which torch uses one core each."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count_workers(num_workers, share), initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        # After an error, or when the reader leaves, what hasn't begun must not begin.
        pool.shutdown(cancel_futures=True)
        # The number applies to threads that start later, too.
        torch.set_num_threads(before)
