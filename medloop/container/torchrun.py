"""The launcher of distributed training: torchrun's agent, with SageMaker's contract around it.

`python -m medloop.container.torchrun PLAN PROGRAM [ARGUMENT]...`

`medloop.container.launch` becomes this program. The agent (torch.distributed.elastic) starts the processes, watches
them, and ends the others when one fails; it never restarts (the service does, from the checkpoint). Around it: SIGTERM
gives every process time to save; only the first process has standard output, so that a metric is logged once; one
failure reason is reported.
"""

from __future__ import annotations

import json
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
from medloop.container.failures import JobFailure, find_cause, read_failures
from medloop.container.launch import LaunchPlan
from medloop.container.paths import failure_file
from medloop.container.run import write_reason

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing import LogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

SHUTDOWN_SECONDS: Final = 100
"""Seconds for a checkpoint, of the 120 between the service's SIGTERM and SIGKILL
(https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StopTrainingJob.html)."""
RENDEZVOUS_SECONDS: Final = 1800
"""Until all hosts have joined: each takes its own time to pull the image and download data."""


class StopSignal:
    """Handles SIGTERM, SIGINT and SIGHUP; the first one counts, later ones don't interrupt the shutdown."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.running = False
        """True if there are processes to end."""

    def listen(self) -> None:
        """Install the handlers; a signal that came while this program was loading is handled now."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.number is not None:
            return
        self.number = number
        if not self.running:
            sys.exit(128 + number)
        from torch.distributed.elastic.multiprocessing import SignalException

        # SIGTERM makes processes save; Ctrl-C would be a traceback.
        raise SignalException("stopped", signal.SIGTERM)


def main(argv: Sequence[str]) -> int:
    """Run the processes; returns the exit code.

    Args:
        argv: The plan as JSON, the program and its arguments.
    """
    stop = StopSignal()
    stop.listen()
    plan = LaunchPlan(**json.loads(argv[0]))
    with tempfile.TemporaryDirectory(prefix="medloop-ranks-") as name:
        folder = Path(name)
        os.environ[failures.FOLDER_VARIABLE] = name
        job_failure = _run(plan, argv[1:], folder, stop)
        for failure in read_failures(folder):
            if failure.code == failures.TERMINATED:
                print(failure.reason, file=sys.stderr, flush=True)
                break
    if job_failure is None:
        return 0
    if job_failure.reason is not None:
        print(f"error: {job_failure.reason}", file=sys.stderr, flush=True)
        # The host with the cause reports it.
        if not (job_failure.is_consequence and plan.num_hosts > 1):
            write_reason(failure_file(), job_failure.reason)
    if job_failure.code == failures.TERMINATED and stop.number is not None:
        return 128 + stop.number
    return job_failure.code


def _run(plan: LaunchPlan, program: Sequence[str], folder: Path, stop: StopSignal) -> JobFailure | None:
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    # The agent's report of a failure is long, and has less information than the process's.
    logging.disable(logging.CRITICAL)
    codes: Mapping[int, int] = {}
    stop.running = True
    try:
        elastic_launch(_config(plan, folder), sys.executable)(*program)
        return None
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
    except SignalException:
        pass
    except Exception as error:
        if plan.num_hosts == 1:
            return JobFailure(1, f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
        address, reason = f"{plan.master}:{plan.port}", f"{type(error).__name__}: {' '.join(str(error).split())}"
        host = f"host {plan.host_rank + 1} of {plan.num_hosts}"
        return JobFailure(1, f"{host} can't join the others at {address} ({reason})")
    return find_cause(codes, read_failures(folder), stopped=stop.number is not None)


def _config(plan: LaunchPlan, folder: Path) -> LaunchConfig:
    from torch.distributed.launcher.api import LaunchConfig

    rendezvous: dict[str, Any] = {"timeout": RENDEZVOUS_SECONDS}
    if plan.num_hosts > 1:
        rendezvous["rank"] = plan.host_rank
        backend, endpoint, address = "static", f"{plan.master}:{plan.port}", None
    else:
        # As torchrun --standalone, without resolving this host's name, which may take long or fail.
        rendezvous["is_host"] = True
        backend, endpoint, address = "c10d", f"{plan.master}:{plan.port}", plan.master
    return LaunchConfig(
        min_nodes=plan.num_hosts,
        max_nodes=plan.num_hosts,
        nproc_per_node=plan.processes_per_host,
        run_id="medloop",
        role="rank",
        rdzv_backend=backend,
        rdzv_endpoint=endpoint,
        rdzv_configs=rendezvous,
        local_addr=address,
        max_restarts=0,
        monitor_interval=0.1,
        logs_specs=_logs(folder),
        log_line_prefix_template="[rank ${rank}] ",
        signals_to_handle="SIGQUIT",
        shutdown_timeout=SHUTDOWN_SECONDS,
    )


def _logs(folder: Path) -> LogsSpecs:
    """Keep standard output of the first process only; standard error of all, each line with its rank."""
    from torch.distributed.elastic.multiprocessing import LogsDest, LogsSpecs

    class RankLogs(LogsSpecs):
        """Destinations of the processes' output."""

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
