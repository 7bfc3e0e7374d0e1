"""The failure contract of SageMaker, the same for every container.

An expected error (`MedloopError`) is one line in the failure file and exit code 2 (or its own `exit_code`); anything
else is a bug: its traceback, the exception first, and exit code 1. The service shows the first 1,024 characters. A job
that SIGTERM ended (`Terminated`) hasn't failed: exit code 143, and no failure file. Processes that train together write
their failures for the launcher, which reports one reason (`medloop.container.torchrun`).
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

from medloop.container.failures import FOLDER_VARIABLE, TERMINATED, RankFailure
from medloop.container.gpu import is_on_sagemaker, prefer_compatible_cuda
from medloop.container.paths import failure_file, message_file
from medloop.errors import MedloopError, Terminated

MAX_REASON = 1024
Kind = Literal["training", "processing", "serving"]


def run(main: Callable[[], None], *, kind: Kind) -> NoReturn:
    """Run a job's main function and exit as the contract requires.

    Args:
        main: The job.
        kind: Training jobs write the failure reason to `output/failure`, processing jobs to `output/message`; hosting
            reads only the log.
    """
    path = {"training": failure_file(), "processing": message_file(), "serving": None}[kind]
    folder = os.environ.get(FOLDER_VARIABLE)
    if kind == "training" and not folder:
        _exit_on_sigterm()
    if kind == "processing" and os.getpid() == 1:
        signal.signal(signal.SIGTERM, _end_container)
    if is_on_sagemaker():
        prefer_compatible_cuda()
    try:
        main()
    except MedloopError as error:
        _fail(path, folder, str(error), error.exit_code, expected=True)
    except Exception as error:
        _fail(path, folder, f"{type(error).__name__}: {error}\n{traceback.format_exc()}", 1, expected=False)
    sys.exit(0)


def write_reason(path: Path | None, reason: str) -> None:
    """Write the reason to the file that the service reads; skipped by hand, without the contract's root."""
    if path and path.parent.parent.is_dir():
        path.parent.mkdir(exist_ok=True)
        path.write_text(reason[:MAX_REASON], encoding="utf-8")


def _fail(path: Path | None, folder: str | None, reason: str, code: int, *, expected: bool) -> NoReturn:
    if folder:  # the launcher reports it, once for all processes
        failure = RankFailure(int(os.environ.get("RANK", "0")), reason, code, expected, time.time())
        failure.write(Path(folder))
        sys.exit(code)
    if code == Terminated.exit_code:
        print(reason, file=sys.stderr, flush=True)
        sys.exit(code)
    write_reason(path, reason)
    if expected:
        print(f"error: {reason}", file=sys.stderr, flush=True)
    else:
        traceback.print_exc()
    sys.exit(code)


def _end_container(number: int, frame: FrameType | None) -> None:
    """End a job whose entry point replaced the image's: the kernel ignores a signal that process 1 doesn't handle.

    There is nothing to save, and the kernel ends all other processes of the container.
    """
    del number, frame
    os.write(sys.stderr.fileno(), b"stopped by SIGTERM\n")
    os._exit(TERMINATED)


def _exit_on_sigterm() -> None:
    """Exit on SIGTERM before there is anything to save; a container's first process ignores the signal by default.

    Training replaces the handler while it runs (`medloop.training.spot_interruption`). Processes that the launcher
    started keep the default, which also ends a process that waits for another one in C code.
    """

    def exit_now(number: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(number, signal.SIG_IGN)  # once is enough
        os.write(sys.stderr.fileno(), b"stopped by SIGTERM\n")  # print may be what was interrupted
        sys.exit(TERMINATED)

    signal.signal(signal.SIGTERM, exit_now)
