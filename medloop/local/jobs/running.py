"""Runs one job: stages it, starts its process, follows it, and stores what it left.

The engine runs the jobs of an execution in its threads; a job of no pipeline has a process (`medloop.local.runner`).
"""

from __future__ import annotations

import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from medloop.local import processes
from medloop.local.errors import MAX_REASON, RequestError, StagingError, failure_reason
from medloop.local.jobs import outputs
from medloop.local.jobs.folders import Launch
from medloop.local.jobs.job import TRAINING, Job
from medloop.local.jobs.staging import stage
from medloop.local.jobs.warm import start_program
from medloop.local.processes import Process
from medloop.local.state.home import now
from medloop.local.state.log_streams import LogStream
from medloop.local.state.store import Document
from medloop.log_metrics import metric_patterns

_STOP_GRACE_SECONDS = 120.0
"""SageMaker's time between SIGTERM and SIGKILL."""
_DEFAULT_RUNTIME = 86_400
_POLL_SECONDS = 0.05
_STATUS_SECONDS = 0.5


@dataclass(frozen=True)
class ProcessExit:
    """The end of a job's process: its return code, and why it was stopped, if so (`Stopped`, `MaxRuntimeExceeded`)."""

    code: int
    cause: str | None


def run_job(job: Job, stop: threading.Event) -> Document:
    """Run a recorded processing or training job to its end; returns its last record.

    Args:
        job: A job in progress whose supervisor is this process.
        stop: Ends the job when set.
    """

    def work(document: Document, log: LogStream) -> Document:
        log.patterns = metric_patterns(document.get("AlgorithmSpecification", {}).get("MetricDefinitions"))
        launch = stage(job, document)
        return _finish(job, _run_process(job, launch, log, stop_requested(job, stop)), log)

    return run_recorded(job, work)


def run_recorded(job: Job, work: Callable[[Document, LogStream], Document]) -> Document:
    """Do a job's work; in any case the record gets the job's end, and the job's folders are deleted.

    Args:
        job: A job in progress whose supervisor is this process.
        work: Given the job's record and its log, does the work and ends the record; returns it.
    """
    document = job.begin()
    log = job.log
    try:
        return work(document, log)
    except Exception as error:
        reason = failure_reason(error)
        job.withdraw_outputs()
        log.write(reason if isinstance(error, RequestError) else traceback.format_exc())
        return job.end("Failed", FailureReason=reason)
    finally:
        job.clear(document)


def stop_requested(job: Job, stop: threading.Event) -> Callable[[], bool]:
    """True if the job is to stop; asks the store no more often than needed."""
    checked_at = 0.0

    def requested() -> bool:
        nonlocal checked_at
        if stop.is_set():
            return True
        if time.monotonic() - checked_at < _STATUS_SECONDS:
            return False
        checked_at = time.monotonic()
        return bool(job.read()[job.kind.status] == "Stopping")

    return requested


def _run_process(job: Job, launch: Launch, log: LogStream, stop_requested: Callable[[], bool]) -> ProcessExit:
    try:
        home = job.backend.home
        process = start_program(home, job.folder, launch, log, is_cancelled=stop_requested)
    except OSError as error:
        raise StagingError(f"{launch.argv[0]} can't be started: {error.strerror}") from error
    started: dict[str, Any] = {
        "_process": processes.identity(process.pid),
        f"{job.kind.type.time_prefix}StartTime": now(),
    }
    document = job.change(**started, **({"SecondaryStatus": "Training"} if job.kind is TRAINING else {}))
    limit = (document.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds", _DEFAULT_RUNTIME)
    assert process.stdout is not None  # noqa: S101 (an invariant of PIPE)
    follower = threading.Thread(target=log.follow, args=(process.stdout,), daemon=True)
    follower.start()
    cause = _supervise(process, limit, stop_requested)
    # As in a container, all other processes end with the first one; they would keep the log open, too.
    process.signal_group(signal.SIGKILL)
    job.folder.end_all()
    follower.join(timeout=30)
    return ProcessExit(_exit_code(launch, process.wait()), cause)


def _exit_code(launch: Launch, code: int) -> int:
    """Return a program's exit code as that of a process: negative if a signal killed it.

    A container's is 128 and the signal's number. 143 stays: jobs exit with it themselves when they are stopped.
    """
    killed = launch.program is not None and code - 128 in {*signal.Signals} - {signal.SIGTERM}
    return 128 - code if killed else code


def _supervise(process: Process, limit: float, stop_requested: Callable[[], bool]) -> str | None:
    """Wait until the process has ended (but isn't reaped, so that its group's number stays taken)."""
    deadline = time.monotonic() + limit
    while not process.has_ended(_POLL_SECONDS):
        if stop_requested() or time.monotonic() > deadline:
            cause = "MaxRuntimeExceeded" if time.monotonic() > deadline else "Stopped"
            _terminate(process)
            return cause
    return None


def _terminate(process: Process) -> None:
    process.signal_group(signal.SIGTERM)
    patience = time.monotonic() + _STOP_GRACE_SECONDS
    while not process.has_ended(_POLL_SECONDS):
        if time.monotonic() > patience:
            process.signal_group(signal.SIGKILL)


def _finish(job: Job, ended: ProcessExit, log: LogStream) -> Document:
    output = job.folder.ml / "output"
    fields: dict[str, Any] = {}
    if job.kind is TRAINING and log.metrics:
        fields["FinalMetricDataList"] = list(log.metrics.values())
    message = outputs.read_text(output / "message")
    if job.kind is not TRAINING and message:
        fields["ExitMessage"] = message
    if ended.cause is None and ended.code != 0:
        text = outputs.read_text(output / "failure") if job.kind is TRAINING else message
        return job.end("Failed", FailureReason=_reason(ended.code, text), **fields)
    if ended.cause is None or job.kind is TRAINING:
        fields |= _store(job, stopped=ended.cause is not None)
    if ended.cause is None:
        return job.end("Completed", **fields)
    secondary = {"SecondaryStatus": ended.cause} if job.kind is TRAINING else {}
    if job.kind is not TRAINING and ended.cause == "MaxRuntimeExceeded":
        fields.setdefault("ExitMessage", "The job ran longer than MaxRuntimeInSeconds")
    return job.end("Stopped", **fields, **secondary)


def _store(job: Job, *, stopped: bool) -> dict[str, Any]:
    if job.kind is not TRAINING:
        outputs.store_processing(job, job.read())
        return {}
    document = job.change(SecondaryStatus="Uploading")
    if stopped and outputs.is_empty(job.folder.ml / "model"):
        return {}
    return {"ModelArtifacts": {"S3ModelArtifacts": outputs.store_training(job, document)}}


def _reason(code: int, text: str) -> str:
    """SageMaker's words for a job that failed, kept within their length with the exit code at the end."""
    if code < 0:
        text = text or f"the job's process was killed by signal {-code} ({signal.Signals(-code).name})"
        code = 128 - code
    ending = f", exit code: {code}"
    return f"AlgorithmError: {text or 'See job logs for more information'}"[: MAX_REASON - len(ending)] + ending
