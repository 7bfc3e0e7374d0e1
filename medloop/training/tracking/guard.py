"""Keeps a tracker's trouble from the run: its calls run in a thread of their own, and what they raise is a line.

A tracker that is down must not cost a training that takes hours: calls are queued and never waited for, an exception
costs that call, three of them, or one at the start, the tracker; at the end the run waits for it for a limited time.
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
"""From the start on; a tracker that hasn't answered by then is off. Nothing waits for it but the end of the run."""
FINISH_SECONDS: Final = 120.0
"""At the end, for what is still queued: above all the model's upload."""
QUEUE_LENGTH: Final = 1000
MAX_REASON: Final = 200


def _say(line: str) -> None:
    print(line, flush=True)


class Guarded:
    """A tracker that never raises and never blocks.

    Args:
        tracker: The tracker.
        say: Where warnings go.
        start_seconds: As START_SECONDS.
        finish_seconds: As FINISH_SECONDS.
    """

    def __init__(
        self,
        tracker: Tracker,
        say: Callable[[str], None] = _say,
        start_seconds: float = START_SECONDS,
        finish_seconds: float = FINISH_SECONDS,
    ) -> None:
        self._tracker, self._say = tracker, say
        self._start_seconds, self._finish_seconds = start_seconds, finish_seconds
        self._calls: queue.Queue[tuple[str, Callable[[], object]]] = queue.Queue(QUEUE_LENGTH)
        self._started = threading.Event()
        self._run: TrackingRun | None = None
        self._failures = 0
        self._off = False
        self._begun = time.monotonic()
        self._thread = threading.Thread(target=self._work, name=f"tracker {tracker.name}", daemon=True)

    def start(self, info: RunInfo) -> None:
        """Begin to open the run."""
        self._begun = time.monotonic()
        self._thread.start()
        self._put("start", partial(self._open, info))

    def run(self) -> TrackingRun | None:
        """The tracker's run; None where it has none, or couldn't be reached. Waits for a start that still lasts."""
        left = self._begun + self._start_seconds - time.monotonic()
        if not self._off and not self._started.wait(max(0.0, left)):
            self._turn_off(f"no answer in {self._start_seconds:g} s")
        return None if self._off else self._run

    def metrics(self, row: Mapping[str, float], step: int) -> None:
        """An epoch's numbers."""
        self._put("metrics", partial(self._tracker.metrics, dict(row), step))

    def picture(self, name: str, image: Picture, step: int) -> None:
        """A picture of that epoch."""
        self._put("picture", partial(self._tracker.picture, name, image, step))

    def artefact(self, path: Path) -> None:
        """A file that belongs to the run; it must stay as it is until the run ends."""
        self._put("artefact", partial(self._tracker.artefact, path))

    def model(self, folder: Path) -> None:
        """The finished model's folder; likewise."""
        self._put("model", partial(self._tracker.model, folder))

    def finish(self, status: Status) -> None:
        """Close the run, and wait for it for a limited time."""
        self.run()  # A start without an answer is waited for no longer than its own limit.
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
            self._say(f"tracking: {self._tracker.name}: {reason}; training goes on")

    def _turn_off(self, reason: str) -> None:
        if not self._off:
            self._off = True
            self._say(f"tracking: {self._tracker.name} is off ({reason}); training goes on")
