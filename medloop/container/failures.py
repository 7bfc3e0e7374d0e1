"""Failures of processes that train together: each process writes its own, and the launcher reports the first cause.

After one process fails, the others fail because they lost it. The failure reason of the job must be the first cause.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from medloop.documents.json_text import read_json

FOLDER_VARIABLE: Final = "MEDLOOP_FAILURES"
"""Environment variable: the folder where processes write their failures for the launcher."""
TERMINATED: Final = 128 + signal.SIGTERM
"""143, the exit code of a process that SIGTERM ended."""
_TERM_CODES = (TERMINATED, -signal.SIGTERM)
_LOST = re.compile(
    r"gloo/transport|Connection (closed|reset) by peer|nccl(Remote|System)Error|NCCL communicator was aborted"
    r"|Dist(Backend|Network|Store)Error"
)
"""Texts of Gloo, NCCL and torch.distributed in the error of a process that lost another one."""


@dataclass(frozen=True)
class RankFailure:
    """The failure of one process.

    Args:
        rank: The process's number.
        reason: One line for an expected error; else the exception, then the traceback.
        code: Its exit code.
        expected: True for an error that medloop raises on purpose.
        time: Seconds since the epoch.
    """

    rank: int
    reason: str
    code: int
    expected: bool
    time: float

    @property
    def is_consequence(self) -> bool:
        """True if the process failed because it lost another one."""
        return _LOST.search(self.reason.partition("\nTraceback")[0]) is not None

    def write(self, folder: Path) -> None:
        """Write a file for the launcher, atomically."""
        partial = folder / f".{self.rank}.partial"
        partial.write_text(json.dumps(asdict(self)), encoding="utf-8")
        os.replace(partial, folder / f"{self.rank}.json")


def read_failures(folder: Path) -> list[RankFailure]:
    """Read the failures that processes wrote, sorted by time."""
    failures = [RankFailure(**read_json(path)) for path in folder.glob("*.json")]
    return sorted(failures, key=lambda failure: failure.time)


@dataclass(frozen=True)
class JobFailure:
    """The failure of a job of many processes.

    Args:
        code: Its exit code.
        reason: For the failure file and the log; None if the job was stopped.
        is_consequence: True if the cause is on another host, which reports it.
    """

    code: int
    reason: str | None
    is_consequence: bool = False


def find_cause(codes: Mapping[int, int], failures: Sequence[RankFailure], *, stopped: bool) -> JobFailure:
    """Find the first cause.

    An expected error comes first, regardless of its time; then a bug; then a process that the system killed; last a
    process that lost another one.

    Args:
        codes: Known exit codes by rank, negative for a signal.
        failures: Failures that processes wrote, sorted by time.
        stopped: True if the launcher was stopped; some processes may have been killed since then.
    """
    reported = [failure for failure in failures if failure.code != TERMINATED]
    causes = [failure for failure in reported if not failure.is_consequence]
    if causes:
        first = min(causes, key=lambda failure: not failure.expected)
        return JobFailure(first.code, first.reason)
    if stopped:
        return JobFailure(TERMINATED, None)
    silent = {rank: code for rank, code in sorted(codes.items()) if rank not in {f.rank for f in failures}}
    for rank, code in silent.items():
        if code < 0 and -code not in (signal.SIGTERM, signal.SIGABRT):
            return JobFailure(128 - code, _killed(rank, -code))
    for rank, code in silent.items():
        if code > 0 and code != TERMINATED:
            return JobFailure(code, f"rank {rank} ended with exit code {code} and reported no reason; see its log")
    if reported or -signal.SIGABRT in silent.values():
        reason = reported[0].reason if reported else "its communication was aborted"
        rank = reported[0].rank if reported else next(rank for rank, code in silent.items() if code == -signal.SIGABRT)
        return JobFailure(1, f"rank {rank} lost the processes that it trains with: {reason}", is_consequence=True)
    if any(code in _TERM_CODES for code in codes.values()) or failures:
        return JobFailure(TERMINATED, None)
    return JobFailure(1, "the processes ended and reported no reason")


def _killed(rank: int, number: int) -> str:
    name = signal.Signals(number).name
    if number != signal.SIGKILL:
        return f"rank {rank} was ended by {name}; see its log"
    return (
        f"rank {rank} was killed by {name}, most likely because the host's memory ran out; set fewer processes, "
        "a smaller batch_size, or an instance with more memory"
    )
