"""A bounded line of requests before the workers that answer them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

from medloop.serving.refusals import RefusalError
from medloop.serving.settings import MIB, ServeSettings

Result = TypeVar("Result")
BUSY = "the endpoint is busy; send the request again in a second"


class Line:
    """Who waits and who is at work, in requests and in bytes. Used from the event loop alone, but for the workers.

    Decoding is a worker's work too, so that memory holds the bodies of the line and, decoded, one file a worker.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._places = settings.queue + settings.workers
        self._bytes = settings.max_waiting_mib * MIB
        self._turns = asyncio.Semaphore(settings.workers)
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="predict")

    @contextmanager
    def place(self) -> Iterator[None]:
        """Stand in the line.

        Raises:
            RefusalError: 503: it is full.
        """
        if not self._places:
            raise RefusalError(503, BUSY)
        self._places -= 1
        try:
            yield
        finally:
            self._places += 1

    def hold(self, num_bytes: int) -> None:
        """Count bytes in; a negative number counts them out.

        Raises:
            RefusalError: 503: the line would hold too many.
        """
        if num_bytes > self._bytes:
            raise RefusalError(503, BUSY)
        self._bytes -= num_bytes

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until a worker is free."""
        async with self._turns:
            yield

    async def work(self, call: Callable[[], Result]) -> Result:
        """Run in a worker's thread, whose turn it is."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)
