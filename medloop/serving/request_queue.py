"""A bounded queue of requests, and the workers that take them from it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from medloop.serving.service import RefusalError
from medloop.serving.settings import MIB, ServeSettings

BUSY = "the endpoint is busy; send the request again in a second"


class RequestQueue:
    """Requests that wait or are in work, counted in number and in bytes. Used from the event loop only.

    Workers decode, too: memory contains the bodies in the queue and one decoded file per worker.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._positions = settings.queue + settings.workers
        self._bytes = settings.max_waiting_mib * MIB
        self.worker = asyncio.Semaphore(settings.workers)
        """Reserves a worker."""
        self.pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="predict")
        """The threads of the reserved workers."""

    @contextmanager
    def position(self) -> Iterator[None]:
        """Take a position in the queue.

        Raises:
            RefusalError: 503: the queue is full.
        """
        if not self._positions:
            raise RefusalError(503, BUSY)
        self._positions -= 1
        try:
            yield
        finally:
            self._positions += 1

    def add_bytes(self, num_bytes: int) -> None:
        """Count bytes of a body; a negative number removes them.

        Raises:
            RefusalError: 503: the queue would contain too many bytes.
        """
        if num_bytes > self._bytes:
            raise RefusalError(503, BUSY)
        self._bytes -= num_bytes
