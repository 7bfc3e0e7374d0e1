"""Why processes that train together ended: each says so to the launcher, which tells the service one reason.

Where one process fails, the others fail after it, for want of their peer. The service is to hear of the first cause.
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

FOLDER: Final = "MEDLOOP_FAILURES"
"""Environment variable: the folder where processes leave their failures for the launcher."""
TERMINATED: Final = 128 + signal.SIGTERM
"""143, the exit code of a process that ended because of SIGTERM."""
_TERM_CODES = (TERMINATED, -signal.SIGTERM)
_LOST = re.compile(
    r"gloo/transport|Connection (closed|reset) by peer|nccl(Remote|System)Error|NCCL communicator was aborted"
    r"|Dist(Backend|Network|Store)Error"
)
"""What a process says whose peer is gone: texts of Gloo, NCCL and torch.distributed."""


@dataclass(frozen=True)
class Failure:
    """How one process ended.

    Args:
        rank: The process's number.
        reason: One line for an expected error; else the exception, then the traceback.
        code: Its exit code.
        expected: Whether it was an error that medloop raises on purpose.
        time: Seconds since the epoch.
    """

    rank: int
    reason: str
    code: int
    expected: bool
    time: float

    @property
    def lost_a_peer(self) -> bool:
        """Whether this is what follows from another process's end."""
        return _LOST.search(self.reason.partition("\nTraceback")[0]) is not None

    def leave(self, folder: Path) -> None:
        """Write it for the launcher, whole or not at all."""
        partial = folder / f".{self.rank}.partial"
        partial.write_text(json.dumps(asdict(self)), encoding="utf-8")
        os.replace(partial, folder / f"{self.rank}.json")


def read_failures(folder: Path) -> list[Failure]:
    """What processes left, by time."""
    found = [Failure(**json.loads(path.read_text(encoding="utf-8"))) for path in folder.glob("*.json")]
    return sorted(found, key=lambda failure: failure.time)


@dataclass(frozen=True)
class Verdict:
    """How a job of many processes ended.

    Args:
        code: Its exit code.
        reason: For the failure file and the log; None where the job was stopped.
        consequence: Whether the cause lies on another host, which says more.
    """

    code: int
    reason: str | None
    consequence: bool = False


def judge(codes: Mapping[int, int], failures: Sequence[Failure], *, stopped: bool) -> Verdict:
    """The first cause.

    An expected error is one, whenever it was written down; then a bug; then a process that the system killed. That a
    peer is gone is the last thing to say.

    Args:
        codes: Exit codes by rank, negative for a signal; of those that are known.
        failures: What processes said, by time.
        stopped: Whether the launcher was told to end them; some may have been killed since then.
    """
    said = [failure for failure in failures if failure.code != TERMINATED]
    causes = [failure for failure in said if not failure.lost_a_peer]
    if causes:
        first = min(causes, key=lambda one: not one.expected)
        return Verdict(first.code, first.reason)
    if stopped:
        return Verdict(TERMINATED, None)
    silent = {rank: code for rank, code in sorted(codes.items()) if rank not in {one.rank for one in failures}}
    for rank, code in silent.items():
        if code < 0 and -code not in (signal.SIGTERM, signal.SIGABRT):
            return Verdict(128 - code, _killed(rank, -code))
    for rank, code in silent.items():
        if code > 0 and code != TERMINATED:
            return Verdict(code, f"rank {rank} ended with exit code {code}, and said nothing; its log may")
    if said or -signal.SIGABRT in silent.values():
        reason = said[0].reason if said else "its communication was aborted"
        rank = said[0].rank if said else next(rank for rank, code in silent.items() if code == -signal.SIGABRT)
        return Verdict(1, f"rank {rank} lost the processes that it trains with: {reason}", consequence=True)
    if any(code in _TERM_CODES for code in codes.values()) or failures:
        return Verdict(TERMINATED, None)
    return Verdict(1, "the processes ended, and none said why")


def _killed(rank: int, number: int) -> str:
    name = signal.Signals(number).name
    if number != signal.SIGKILL:
        return f"rank {rank} was ended by {name}; its log may say more"
    return (
        f"rank {rank} was killed by {name}, most likely because the machine's memory ran out; take fewer processes, "
        "a smaller batch_size, or an instance with more memory"
    )
