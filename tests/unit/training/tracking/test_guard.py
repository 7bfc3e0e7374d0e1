"""A tracker's trouble stays the tracker's."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from medloop.training.tracking.base import Picture
from medloop.training.tracking.guard import QUEUE_LENGTH, Guarded
from medloop.training.tracking.open import Tracking
from tests.unit.training.tracking.fakes import INFO, RUN, Remembering

EVERY = ("start", "metrics", "picture", "artefact", "model", "finish finished")


def use(tracker: Remembering, **limits: float) -> tuple[Guarded, list[str]]:
    """A whole run on a guarded tracker, and its warnings."""
    warnings: list[str] = []
    guarded = Guarded(tracker, warnings.append, **limits)
    guarded.start(INFO)
    guarded.metrics({"loss": 1.0}, 1)
    guarded.picture("p", np.zeros((1, 1, 3), np.uint8), 1)
    guarded.artefact(Path("a"))
    guarded.model(Path("m"))
    guarded.finish("finished")
    return guarded, warnings


def test_calls_arrive_in_order() -> None:
    """All of them, the last one before `finish` returns, and there is no warning."""
    tracker = Remembering()
    guarded, warnings = use(tracker)
    assert tracker.calls == list(EVERY)
    assert (guarded.run(), warnings) == (RUN, [])


@pytest.mark.parametrize("method", EVERY)
def test_one_failing_call_costs_that_call(method: str) -> None:
    """One line; the other calls still arrive, unless the run couldn't even be opened."""
    tracker = Remembering(failing=(method,))
    guarded, warnings = use(tracker)
    assert len(warnings) == 1
    assert f"{method.split()[0]}: SystemExit: {method} fails" in warnings[0]
    assert "training continues" in warnings[0]
    assert tracker.calls == (["start"] if method == "start" else list(EVERY))
    assert guarded.run() == (None if method == "start" else RUN)


def test_three_failures_turn_it_off() -> None:
    """Two lines in all, and no call after the third failure."""
    tracker = Remembering(failing=EVERY[1:])
    _, warnings = use(tracker)
    assert len(warnings) == 2
    assert "fake is off" in warnings[1]
    assert tracker.calls == list(EVERY[:4])


@pytest.mark.parametrize(
    ("hanging", "reason"), [("start", "no response in 0.2 s"), ("metrics", "not finished in 0.2 s")]
)
def test_a_tracker_that_hangs_is_left(hanging: str, reason: str) -> None:
    """The run doesn't wait for it longer than it says."""
    tracker = Remembering(hanging=(hanging,))
    begun = time.monotonic()
    _, warnings = use(tracker, start_seconds=0.2, finish_seconds=0.2)
    assert time.monotonic() - begun < 1
    assert len(warnings) == 1
    assert reason in warnings[0]
    tracker.release.set()


def test_calls_do_not_wait() -> None:
    """A slow tracker falls behind alone; one that falls too far behind is off."""
    tracker = Remembering(hanging=("metrics",))
    warnings: list[str] = []
    guarded = Guarded(tracker, warnings.append)
    guarded.start(INFO)
    begun = time.monotonic()
    for step in range(QUEUE_LENGTH + 2):
        guarded.metrics({"loss": 1.0}, step)
    assert time.monotonic() - begun < 1
    guarded.finish("finished")
    assert len(warnings) == 1
    assert "calls behind" in warnings[0]
    tracker.release.set()


def _cannot() -> dict[str, Picture]:
    raise KeyError(0)


def test_pictures_that_cannot_be_drawn_are_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Drawing is for the trackers: it fails like them. With no tracker nothing is drawn."""
    tracker = Remembering()
    guarded = Guarded(tracker)
    guarded.start(INFO)
    Tracking([guarded]).pictures(_cannot, 1)
    assert "tracking: no pictures (KeyError: 0)" in capsys.readouterr().out
    Tracking().pictures(_cannot, 1)
    guarded.finish("finished")
    assert tracker.calls == ["start", "finish finished"]
