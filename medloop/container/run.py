"""How a job ends: the failure contract of SageMaker, the same for every container.

An expected error (`MedloopError`) is one line in the failure file and exit code 2 (or its own `exit_code`); anything
else is a bug: its traceback, the exception first, and exit code 1. The service shows the first 1,024 characters. A job
that SIGTERM ended (`Terminated`) hasn't failed: exit code 143, and no failure file. Of processes that train together
each tells the launcher, which tells the service one reason (`medloop.container.torchrun`).
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Literal, NoReturn

from medloop.container.failures import FOLDER, TERMINATED, Failure
from medloop.container.paths import failure_file, message_file
from medloop.errors import MedloopError, Terminated

MAX_REASON = 1024
Kind = Literal["training", "processing", "serving"]


def run(main: Callable[[], None], *, kind: Kind) -> NoReturn:
    """Run a job's main function and exit as the contract says.

    Args:
        main: The job.
        kind: Training jobs say why they failed in `output/failure`, processing jobs in `output/message`; hosting
            reads no file, only the log.
    """
    path = {"training": failure_file(), "processing": message_file(), "serving": None}[kind]
    folder = os.environ.get(FOLDER)
    if kind == "training" and not folder:
        _end_on_sigterm()
    try:
        main()
    except MedloopError as error:
        _ended(path, folder, str(error), error.exit_code, expected=True)
    except Exception as error:
        _ended(path, folder, f"{type(error).__name__}: {error}\n{traceback.format_exc()}", 1, expected=False)
    sys.exit(0)


def leave_reason(path: Path | None, reason: str) -> None:
    """Write the reason where the service reads it; by hand, without the contract's root, standard error is enough."""
    if path and path.parent.parent.is_dir():
        path.parent.mkdir(exist_ok=True)
        path.write_text(reason[:MAX_REASON], encoding="utf-8")


def _ended(path: Path | None, folder: str | None, reason: str, code: int, *, expected: bool) -> NoReturn:
    if folder:  # the launcher says it, once for all processes
        failure = Failure(int(os.environ.get("RANK", "0")), reason, code, expected, time.time())
        failure.leave(Path(folder))
        sys.exit(code)
    if code == Terminated.exit_code:
        print(reason, file=sys.stderr, flush=True)
        sys.exit(code)
    leave_reason(path, reason)
    if expected:
        print(f"error: {reason}", file=sys.stderr, flush=True)
    else:
        traceback.print_exc()
    sys.exit(code)


def _end_on_sigterm() -> None:
    """End on SIGTERM also where nothing is there to save yet: as a container's first process, this one would ignore it.

    Training takes the signal over while it runs (`medloop.training.sigterm`). Processes that the launcher started end
    by the signal's own default, also while they wait for one another, where Python can't act.
    """

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(number, signal.SIG_IGN)  # once is enough
        os.write(sys.stderr.fileno(), b"stopped by SIGTERM\n")  # print may be what was interrupted
        sys.exit(TERMINATED)

    signal.signal(signal.SIGTERM, end)
