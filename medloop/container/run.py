"""How a job ends: the failure contract of SageMaker, the same for every container.

An expected error (`MedloopError`) is one line in the failure file and exit code 2 (or its own `exit_code`); anything
else is a bug: its traceback, the exception first, and exit code 1. The service shows the first 1,024 characters.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NoReturn

from medloop.container.paths import failure_file, message_file
from medloop.errors import MedloopError

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
    try:
        main()
    except MedloopError as error:
        _leave(path, str(error))
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    except Exception as error:
        _leave(path, f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
        traceback.print_exc()
        sys.exit(1)
    sys.exit(0)


def _leave(path: Path | None, reason: str) -> None:
    """Write the reason where the service reads it; by hand, without the contract's root, standard error is enough."""
    if path and path.parent.parent.is_dir():
        path.parent.mkdir(exist_ok=True)
        path.write_text(reason[:MAX_REASON], encoding="utf-8")
