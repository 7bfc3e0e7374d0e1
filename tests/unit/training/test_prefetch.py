"""Prefetched batches: in order, no more than `depth` in advance, and deleted with their reader."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from medloop.training.prefetch import prefetch, tensors_in

CPU = torch.device("cpu")


def wait_for(condition: threading.Event) -> None:
    """Or fail."""
    assert condition.wait(10)


@pytest.mark.parametrize("depth", [0, 1, 2, 5])
def test_results_come_in_order(depth: int) -> None:
    """One for each step, from the first to the last."""
    assert list(prefetch(lambda step: step * step, range(3, 20), CPU, depth)) == [k * k for k in range(3, 20)]
    assert list(prefetch(lambda step: step, range(0), CPU, depth)) == []


def test_the_next_are_made_meanwhile() -> None:
    """While the reader is busy with one result, the next `depth` are made, and no more."""
    made: list[int] = []
    enough = threading.Event()

    def make(step: int) -> int:
        made.append(step)
        if len(made) == 3:
            enough.set()
        return step

    with closing(prefetch(make, range(10), CPU, depth=2)) as results:
        assert next(results) == 0
        wait_for(enough)
        time.sleep(0.05)
        assert made == [0, 1, 2]
        assert next(results) == 1


@pytest.mark.parametrize("depth", [0, None])
def test_without_depth_nothing_is_made_ahead(depth: int | None) -> None:
    """A plain loop in the reader's own thread, the default on the CPU."""
    made: list[str] = []
    results = prefetch(lambda step: made.append(threading.current_thread().name), range(3), CPU, depth)
    next(results)
    assert made == [threading.current_thread().name]


def test_an_error_comes_at_its_step() -> None:
    """What was made before it is taken first; the error is the very one that was raised."""
    error = ValueError("no batch")

    def make(step: int) -> int:
        if step == 3:
            raise error
        return step

    results = prefetch(make, range(10), CPU, depth=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no batch") as caught:
        next(results)
    assert caught.value is error
    assert not prefetching()


def test_the_thread_ends_with_its_reader() -> None:
    """Promptly, whether it was waiting for room or in the middle of a step."""
    working, go = threading.Event(), threading.Event()

    def make(step: int) -> int:
        if step == 1:
            working.set()
            wait_for(go)
        return step

    results = prefetch(make, range(1_000_000), CPU, depth=2)
    assert next(results) == 0
    wait_for(working)
    threading.Timer(0.05, go.set).start()
    results.close()  # type: ignore[attr-defined]
    assert not prefetching()
    with closing(prefetch(lambda step: step, range(1_000_000), CPU, depth=2)) as results:
        assert next(results) == 0
    assert not prefetching()


def test_a_reader_that_fails_ends_the_thread() -> None:
    """Its own error comes out."""

    def read() -> None:
        with closing(prefetch(lambda step: step, range(9), CPU, depth=2)) as results:
            for _ in results:
                raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        read()
    assert not prefetching()


def prefetching() -> bool:
    """Whether a thread is at work."""
    return any(thread.name == "prefetch" for thread in threading.enumerate())


@dataclass(frozen=True)
class Rows:
    """Something that holds a tensor."""

    weights: Tensor
    total: int


def test_tensors_are_found_wherever_they_are() -> None:
    """The GPU's allocator must hear of each of them."""
    first, second, third, fourth = (torch.tensor(k) for k in range(4))
    value = [(Rows(first, 7), second), {"more": (third, "text")}, None, Rows, fourth]
    assert [int(t) for t in tensors_in(value)] == [0, 1, 2, 3]
