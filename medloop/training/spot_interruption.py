"""SIGTERM: a Spot instance is reclaimed, or the job is stopped. Training saves a checkpoint after the current step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def catch_sigterm() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM sets; the former handler is restored at the end."""
    received = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may have handlers
        yield received
        return
    before = signal.signal(signal.SIGTERM, lambda *_: received.set())
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)
