"""Runs what outlives the call that asks for it: `python -m medloop.local.runner <resource>`, started detached.

The resource is the ARN of an execution, a job or a tuning job, or `endpoint/<name>` (an endpoint's ARN is in lower
case). The process is started within the transaction that records it, and waits until its record names it: a caller that
dies in between leaves neither. SIGTERM asks it to stop. Each resource imports only what runs it.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from medloop.local.jobs.job import PROCESSING, TRAINING, TRANSFORM, Job, JobKind
from medloop.local.process_identity import is_own
from medloop.local.state.backend import Backend
from medloop.local.state.store import Table

_WAIT_SECONDS = 30
_POLL_SECONDS = 0.05


class Work(NamedTuple):
    """One type of resource that a process runs: its records, the field that names the process, and the function."""

    table: Table
    process: str
    run: Callable[[Backend, str, threading.Event], object]


def _run_execution(backend: Backend, arn: str, stop: threading.Event) -> None:
    from medloop.local.engine.engine import run_execution

    run_execution(backend, arn, stop)


def _run_job(job: Job, stop: threading.Event) -> None:
    from medloop.local.jobs.running import run_job

    run_job(job, stop)


def _run_transform(job: Job, stop: threading.Event) -> None:
    from medloop.local.hosting.transform import run_transform

    run_transform(job, stop)


def _run_tuning(backend: Backend, name: str, stop: threading.Event) -> None:
    from medloop.local.tuning.running import run_tuning

    run_tuning(backend, name, stop)


def _run_endpoint(backend: Backend, name: str, stop: threading.Event) -> None:
    from medloop.local.hosting.supervisor import Supervisor

    Supervisor(backend, name, stop).run()


def _job(kind: JobKind, run: Callable[[Job, threading.Event], object]) -> Work:
    return Work(kind.table, "_supervisor", lambda backend, name, stop: run(Job(backend, kind, name), stop))


WORK = {
    "execution": Work(Table.EXECUTIONS, "_engine", _run_execution),
    "processing-job": _job(PROCESSING, _run_job),
    "training-job": _job(TRAINING, _run_job),
    "transform-job": _job(TRANSFORM, _run_transform),
    "hyper-parameter-tuning-job": Work(Table.TUNING_JOBS, "_supervisor", _run_tuning),
    "endpoint": Work(Table.ENDPOINTS, "_supervisor", _run_endpoint),
}


def main(argv: list[str]) -> None:
    """Run the resource that is named, under `MEDLOOP_HOME`."""
    (resource,) = argv
    *_, resource_type, name = resource.rpartition(":")[2].split("/")
    work = WORK[resource_type]
    key = resource if work.table is Table.EXECUTIONS else name
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    backend = Backend.open()
    with backend.store.kept_open():
        if _wait(partial(_is_ours, backend, work, key)):
            work.run(backend, key, stop)


def _is_ours(backend: Backend, work: Work, key: str) -> bool:
    with backend.store.read() as read:
        record = read.get(work.table, key)
    return record is not None and is_own(record[work.process])


def _wait(recorded: Callable[[], bool]) -> bool:
    """Wait until the process that started this one has recorded it; False when it never does, having died."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not recorded():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
