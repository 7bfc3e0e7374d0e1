"""SIGTERM: a Spot instance is taken back, or someone stops the job. Training ends at the next step, checkpointed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def catch_sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, any number of times; what the process did on SIGTERM before comes back afterwards."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may have handlers
        yield asked
        return

    def ask(number: int, frame: FrameType | None) -> None:
        del number, frame
        asked.set()

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
