"""Guards the run against errors of a tracker: its calls run in a thread, and their exceptions are logged.

An unreachable tracker must not fail a training of hours: calls are queued and never waited for. An exception drops the
call; three of them, or one at the start, switch the tracker off. At the end the run waits for a limited time.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from medloop.documents.model import TrackingRun
from medloop.training.tracking.base import Picture, RunInfo, Status, Tracker

MAX_FAILURES: Final = 3
START_SECONDS: Final = 90.0
"""Timeout of the start; a tracker that hasn't responded is switched off. Only the end of the run waits for it."""
FINISH_SECONDS: Final = 120.0
"""Timeout of the calls that are queued at the end, such as the model's upload."""
QUEUE_LENGTH: Final = 1000
MAX_REASON: Final = 200


def _warn(line: str) -> None:
    print(line, flush=True)


class Guarded:
    """A tracker that never raises and never blocks; `warn` logs a warning."""

    def __init__(
        self,
        tracker: Tracker,
        warn: Callable[[str], None] = _warn,
        start_seconds: float = START_SECONDS,
        finish_seconds: float = FINISH_SECONDS,
    ) -> None:
        self._tracker, self._warn = tracker, warn
        self._start_seconds, self._finish_seconds = start_seconds, finish_seconds
        self._calls: queue.Queue[tuple[str, Callable[[], object]]] = queue.Queue(QUEUE_LENGTH)
        self._started = threading.Event()
        self._run: TrackingRun | None = None
        self._failures = 0
        self._off = False
        self._begun = time.monotonic()
        self._thread = threading.Thread(target=self._work, name=f"tracker {tracker.name}", daemon=True)

    def start(self, info: RunInfo) -> None:
        """Start to open the run."""
        self._begun = time.monotonic()
        self._thread.start()
        self._put("start", partial(self._open, info))

    def run(self) -> TrackingRun | None:
        """Wait for the start, and return the tracker's run; None if it has none or is not reachable."""
        seconds_left = self._begun + self._start_seconds - time.monotonic()
        if not self._off and not self._started.wait(max(0.0, seconds_left)):
            self._turn_off(f"no response in {self._start_seconds:g} s")
        return None if self._off else self._run

    def metrics(self, row: Mapping[str, float], step: int) -> None:
        """Log an epoch's numbers."""
        self._put("metrics", partial(self._tracker.metrics, dict(row), step))

    def picture(self, name: str, image: Picture, step: int) -> None:
        """Log a picture of an epoch."""
        self._put("picture", partial(self._tracker.picture, name, image, step))

    def artefact(self, path: Path) -> None:
        """Log a file of the run; it must not change until the run ends."""
        self._put("artefact", partial(self._tracker.artefact, path))

    def model(self, folder: Path) -> None:
        """Log the finished model's folder; it must not change until the run ends."""
        self._put("model", partial(self._tracker.model, folder))

    def finish(self, status: Status) -> None:
        """Close the run, and wait until the timeout."""
        self.run()  # waits for the start until its timeout
        if self._off:
            return
        self._put("finish", partial(self._tracker.finish, status))
        self._thread.join(self._finish_seconds)
        if self._thread.is_alive():
            self._turn_off(f"not finished in {self._finish_seconds:g} s")

    def _open(self, info: RunInfo) -> None:
        self._run = self._tracker.start(info)

    def _put(self, method: str, call: Callable[[], object]) -> None:
        if self._off:
            return
        try:
            self._calls.put_nowait((method, call))
        except queue.Full:
            self._turn_off(f"{QUEUE_LENGTH} calls behind")

    def _work(self) -> None:
        method = ""
        while method != "finish" and not self._off:
            method, call = self._calls.get()
            try:
                call()
            except BaseException as error:
                self._fail(method, error)
            if method == "start":
                self._started.set()

    def _fail(self, method: str, error: BaseException) -> None:
        self._failures += 1
        reason = " ".join(f"{method}: {type(error).__name__}: {error}".split())[:MAX_REASON]
        if method == "start" or self._failures >= MAX_FAILURES:
            self._turn_off(reason)
        elif self._failures == 1:
            self._warn(f"tracking: {self._tracker.name}: {reason}; training continues")

    def _turn_off(self, reason: str) -> None:
        if not self._off:
            self._off = True
            self._warn(f"tracking: {self._tracker.name} is off ({reason}); training continues")
