"""What `medloop.container.launch` becomes: torchrun's agent, with SageMaker's contract around it.

`python -m medloop.container.torchrun PLAN PROGRAM [ARGUMENT]...`

The agent (torch.distributed.elastic) starts the processes, watches them, and ends the others when one fails; nothing is
started again (the service does that, from the checkpoint). Around it: SIGTERM gives every process time to save; of
the processes' outputs, standard output is the first one's alone, so that a metric is there once; one reason is told.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from medloop.container import failures
from medloop.container.failures import Verdict, judge, read_failures
from medloop.container.launch import Plan
from medloop.container.paths import failure_file
from medloop.container.run import leave_reason

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing import LogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

SHUTDOWN_SECONDS: Final = 100
"""For a checkpoint, of the 120 that the service leaves between SIGTERM and SIGKILL
(https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StopTrainingJob.html)."""
MEETING_SECONDS: Final = 1800
"""Until all hosts have come: each pulls its image, and gets its data, in its own time."""


class Stop:
    """Hears SIGTERM and SIGINT, of which the first counts: whoever sends more of them doesn't disturb the end."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.running = False
        """Whether there are processes to end."""

    def listen(self) -> None:
        """Take the signals, also one that came while this program was loading."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._hear)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.number is not None:
            return
        self.number = number
        if not self.running:
            sys.exit(128 + number)
        from torch.distributed.elastic.multiprocessing import SignalException

        # All are ended by SIGTERM, which they save on; Ctrl-C would be a traceback.
        raise SignalException("stopped", signal.SIGTERM)


def main(argv: Sequence[str]) -> int:
    """Run the processes; returns the exit code.

    Args:
        argv: The plan's text, the program and its arguments.
    """
    stop = Stop()
    stop.listen()
    plan = Plan.from_text(argv[0])
    with tempfile.TemporaryDirectory(prefix="medloop-ranks-") as name:
        folder = Path(name)
        os.environ[failures.FOLDER] = name
        verdict = _run(plan, argv[1:], folder, stop)
        for failure in read_failures(folder):
            if failure.code == failures.TERMINATED:
                print(failure.reason, file=sys.stderr, flush=True)
                break
    if verdict.reason is not None:
        print(f"error: {verdict.reason}", file=sys.stderr, flush=True)
        # Of several hosts, the one that knows the cause is to be heard.
        if not (verdict.consequence and plan.hosts > 1):
            leave_reason(failure_file(), verdict.reason)
    if verdict.code == failures.TERMINATED and stop.number is not None:
        return 128 + stop.number
    return verdict.code


def _run(plan: Plan, program: Sequence[str], folder: Path, stop: Stop) -> Verdict:
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    # The agent's own account of a failure is long, and says less than the process's.
    logging.disable(logging.CRITICAL)
    codes: Mapping[int, int] = {}
    stop.running = True
    try:
        elastic_launch(_config(plan, folder), sys.executable)(*program)
        return Verdict(0, None)
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
    except SignalException:
        pass
    except Exception as error:
        if plan.hosts == 1:
            return Verdict(1, f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
        where, what = f"{plan.master}:{plan.port}", f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Verdict(1, f"host {plan.place + 1} of {plan.hosts} can't meet the others at {where} ({what})")
    return judge(codes, read_failures(folder), stopped=stop.number is not None)


def _config(plan: Plan, folder: Path) -> LaunchConfig:
    from torch.distributed.launcher.api import LaunchConfig

    meeting: dict[str, Any] = {"timeout": MEETING_SECONDS}
    if plan.hosts > 1:
        meeting["rank"] = plan.place
        backend, endpoint, address = "static", f"{plan.master}:{plan.port}", None
    else:
        # As torchrun --standalone, but for the look-up of this host's name, which may take long or fail.
        meeting["is_host"] = True
        backend, endpoint, address = "c10d", f"{plan.master}:{plan.port}", plan.master
    return LaunchConfig(
        min_nodes=plan.hosts,
        max_nodes=plan.hosts,
        nproc_per_node=plan.local,
        run_id="medloop",
        role="rank",
        rdzv_backend=backend,
        rdzv_endpoint=endpoint,
        rdzv_configs=meeting,
        local_addr=address,
        max_restarts=0,
        monitor_interval=0.1,
        logs_specs=_logs(folder),
        log_line_prefix_template="[rank ${rank}] ",
        signals_to_handle="SIGQUIT",
        shutdown_timeout=SHUTDOWN_SECONDS,
    )


def _logs(folder: Path) -> LogsSpecs:
    """Standard output of the first process only; standard error of all, each line with its process's number."""
    from torch.distributed.elastic.multiprocessing import LogsDest, LogsSpecs

    class RankLogs(LogsSpecs):
        """Where the agent sends what processes print."""

        @property
        def root_log_dir(self) -> str:
            return str(folder)

        def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
            errors = {local: str(folder / f"{env['RANK']}.err") for local, env in envs.items()}
            return LogsDest(
                stdouts={local: "" if env["RANK"] == "0" else os.devnull for local, env in envs.items()},
                stderrs=errors,
                tee_stdouts={},
                tee_stderrs=errors,
                error_files={local: str(folder / f"{env['RANK']}.agent") for local, env in envs.items()},
            )

    return RankLogs()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
