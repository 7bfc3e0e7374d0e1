"""Prefetching: batches are made before their steps, in one background thread."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def prefetch(
    make: Callable[[int], T], steps: Iterable[int], device: torch.device, depth: int | None = None
) -> Generator[T, None, None]:
    """Yield `make(step)` for each step, in order, while the thread makes the next ones.

    On a GPU the thread has its own stream: batches are copied and augmented concurrently with the network.

    Args:
        make: Called in another thread, one step at a time. Its result may contain tensors in tuples, lists, mappings
            and dataclasses.
        steps: Arguments of `make`.
        device: Device of its tensors.
        depth: Maximum of waiting results, including the one in progress; 0 makes each when it is needed; None is 2 on
            a GPU, 0 on the CPU.

    Raises:
        BaseException: The exception of `make`, at its step.
    """
    if depth is None:
        # On the CPU the thread uses the network's cores. Measured with DenseNet121, 8 images of 64x64, one core:
        # a batch is made in 3 ms, and a step takes 0.54 s without the thread, 0.58 s with it.
        depth = 2 if device.type == "cuda" else 0
    if depth <= 0:
        yield from map(make, steps)
        return
    worker = _Worker(make, steps, device, depth)
    try:
        yield from worker.results()
    finally:
        # The reader may stop early: a running thread would keep its data in memory.
        worker.stop()


@dataclasses.dataclass(frozen=True)
class _Made(Generic[T]):
    value: T
    ready: torch.cuda.Event | None


@dataclasses.dataclass(frozen=True)
class _Failed:
    error: BaseException


class _Worker(Generic[T]):
    def __init__(self, make: Callable[[int], T], steps: Iterable[int], device: torch.device, depth: int) -> None:
        self._make, self._steps, self._device = make, steps, device
        self._room = threading.Semaphore(depth)
        self._stopped = threading.Event()
        self._results: queue.SimpleQueue[_Made[T] | _Failed | None] = queue.SimpleQueue()
        """None is the last item."""
        self._stream = None
        if device.type == "cuda":
            self._stream = _side_stream(device)
            # Copies of the data to the GPU may still be running.
            self._stream.wait_stream(torch.cuda.current_stream(device))
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def results(self) -> Iterator[T]:
        while True:
            item = self._results.get()
            if item is None:
                return
            if isinstance(item, _Failed):
                raise item.error
            self._room.release()
            if item.ready is not None:
                _hand_over(item.value, item.ready, torch.cuda.current_stream(self._device))
            yield item.value

    def stop(self) -> None:
        self._stopped.set()
        self._room.release()
        self._thread.join()

    def _run(self) -> None:
        try:
            with torch.cuda.stream(self._stream) if self._stream else contextlib.nullcontext():
                for step in self._steps:
                    self._room.acquire()
                    if self._stopped.is_set():
                        return
                    value = self._make(step)
                    self._results.put(_Made(value, self._stream.record_event() if self._stream else None))
                    # Without this reference, the GPU memory is free as soon as the reader releases the batch.
                    del value
            self._results.put(None)
        # KeyboardInterrupt and SystemExit, too: the reader would wait forever.
        except BaseException as error:
            self._results.put(_Failed(error))


@lru_cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream of a device: torch pools freed memory by stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _hand_over(value: object, ready: torch.cuda.Event, stream: torch.cuda.Stream) -> None:
    """Make the reader's stream wait for a result, and the allocator wait for the reader."""
    stream.wait_event(ready)
    for tensor in tensors_in(value):
        if tensor.is_cuda:
            tensor.record_stream(stream)


def tensors_in(value: object) -> Iterator[Tensor]:
    """Find the tensors in nested tuples, lists, mappings and dataclasses."""
    if isinstance(value, Tensor):
        yield value
        return
    parts: Iterable[object] = ()
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, tuple | list):
        parts = value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, field.name) for field in dataclasses.fields(value)]
    for part in parts:
        yield from tensors_in(part)
