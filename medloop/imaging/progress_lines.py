"""Progress of long work in a log: a line now and then. Torch-free."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

Progress = Callable[[int, int], None]
LINE_SECONDS = 30.0
_print = partial(print, flush=True)


def progress_lines(
    title: str,
    write: Callable[[str], object] = _print,
    clock: Callable[[], float] = time.monotonic,
) -> Progress:
    """Make a function of (done, total) that writes a line every half minute, and none for work that takes less.

    Args:
        title: The counted items, in the plural.
        write: Takes a line.
        clock: Seconds.
    """
    last = clock()

    def show(done: int, total: int) -> None:
        nonlocal last
        if clock() - last >= LINE_SECONDS:
            last = clock()
            write(f"{title}: {done} of {total}")

    return show
