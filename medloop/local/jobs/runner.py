"""Runs one job: stages it, starts its process, follows it, and stores what it left.

`python -m medloop.local.jobs.runner <job ARN>` runs a job of no pipeline; the engine runs its jobs in threads.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from medloop.local import processes
from medloop.local.errors import ServiceError
from medloop.local.jobs import jobs, outputs
from medloop.local.jobs.jobs import MAX_REASON, TRAINING, TRANSFORM, JobKind
from medloop.local.jobs.staging import Folder, Launch, StagingError, stage
from medloop.local.state.backend import Backend
from medloop.local.state.home import new_id, now
from medloop.local.state.store import Document
from medloop.log_metrics import find_metrics, metric_patterns

STOP_GRACE_SECONDS: Final = 120.0
"""What SageMaker gives a job between SIGTERM and SIGKILL."""
_DEFAULT_RUNTIME = 86_400
_POLL_SECONDS = 0.05
_STATUS_SECONDS = 0.5


@dataclass
class JobLog:
    """Writes a job's lines with their times, and reads its metrics from them.

    Args:
        path: The log stream's file; a line is `<milliseconds since the epoch> <text>`.
        patterns: Regular expression by metric name; its first group is the value.
    """

    path: Path
    patterns: dict[str, re.Pattern[str]]
    metrics: dict[str, Document] = field(default_factory=dict)

    @classmethod
    def of(cls, backend: Backend, kind: JobKind, job: Document) -> JobLog:
        """The log of a job, its folder made."""
        folder = backend.home.folder("logs", kind.log_group.strip("/"), job[f"{kind.name}Name"])
        definitions = job.get("AlgorithmSpecification", {}).get("MetricDefinitions") or []
        return cls(folder / "algo-1", metric_patterns(definitions))

    def follow(self, stream: IO[str]) -> None:
        """Write every line of a stream until it ends."""
        with self.path.open("a", encoding="utf-8") as file:
            for line in stream:
                file.write(f"{int(time.time() * 1000)} {line.rstrip()}\n")
                file.flush()
                for name, value in find_metrics(line, self.patterns):
                    self.metrics[name] = {"MetricName": name, "Value": value, "Timestamp": now()}

    def say(self, text: str) -> None:
        """Add lines of the backend's own."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(f"{int(time.time() * 1000)} {line}\n" for line in text.splitlines())


@dataclass(frozen=True)
class Ending:
    """How a job's process ended: its return code, and why it was told to, if so (`Stopped`, `MaxRuntimeExceeded`)."""

    code: int
    told: str | None


def run_job(
    backend: Backend, kind: JobKind, name: str, stop: threading.Event, grace: float = STOP_GRACE_SECONDS
) -> Document:
    """Run a recorded job to its end; whatever happens, the record says how it ended.

    Args:
        backend: The backend.
        kind: The kind of job.
        name: A job in progress whose supervisor is this process.
        stop: Ends the job when set.
        grace: Seconds between SIGTERM and SIGKILL.

    Returns:
        The job's last record.
    """
    # Recorded before it is made, so that whoever finds this process dead can delete it.
    fields = {"_temporary": str(Path(tempfile.gettempdir(), f"medloop-{new_id()}"))}
    fields |= {"SecondaryStatus": "Downloading"} if kind is TRAINING else {}
    job = jobs.change(backend, kind, name, **fields)
    log = JobLog.of(backend, kind, job)
    try:
        folder, launch = stage(backend, kind, job)
        ending = _run_process(backend, kind, name, launch, log, asked_to_stop(backend, kind, name, stop), grace)
        return _finish(backend, kind, name, folder, ending, log)
    except (StagingError, ServiceError) as error:
        jobs.withdraw(backend, name)
        log.say(f"ClientError: {error}")
        return jobs.end(backend, kind, name, "Failed", FailureReason=f"ClientError: {error}"[:MAX_REASON])
    except Exception as error:
        jobs.withdraw(backend, name)
        log.say(traceback.format_exc())
        reason = f"InternalServerError: {type(error).__name__}: {error}"
        return jobs.end(backend, kind, name, "Failed", FailureReason=reason[:MAX_REASON])
    finally:
        jobs.clear(backend, kind, job)


def asked_to_stop(backend: Backend, kind: JobKind, name: str, stop: threading.Event) -> Callable[[], bool]:
    """Whether the job is to stop; asks the store no more often than needed."""
    asked_at = 0.0

    def asked() -> bool:
        nonlocal asked_at
        if stop.is_set():
            return True
        if time.monotonic() - asked_at < _STATUS_SECONDS:
            return False
        asked_at = time.monotonic()
        with backend.store.read() as read:
            return bool(jobs.read(read, kind, name)[kind.status] == "Stopping")

    return asked


def _run_process(
    backend: Backend,
    kind: JobKind,
    name: str,
    launch: Launch,
    log: JobLog,
    asked_to_stop: Callable[[], bool],
    grace: float,
) -> Ending:
    try:
        process = subprocess.Popen(  # noqa: S603 (the job's own program is what it is for)
            launch.argv,
            cwd=launch.cwd,
            env=launch.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise StagingError(f"{launch.argv[0]} can't be started: {error.strerror}") from error
    started: dict[str, Any] = {"_process": processes.identity(process.pid)}
    started |= {f"{kind.verb}StartTime": now()}
    job = jobs.change(backend, kind, name, **started, **({"SecondaryStatus": "Training"} if kind is TRAINING else {}))
    limit = (job.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds", _DEFAULT_RUNTIME)
    assert process.stdout is not None  # noqa: S101 (an invariant of PIPE)
    follower = threading.Thread(target=log.follow, args=(process.stdout,), daemon=True)
    follower.start()
    told = _supervise(process, limit, asked_to_stop, grace)
    # As with a container, whatever else still runs ends with the first process; it would keep the log open too.
    processes.signal_own_group(process.pid, signal.SIGKILL)
    processes.kill_strays(Path(launch.env["ML_ROOT"]))
    follower.join(timeout=30)
    return Ending(process.wait(), told)


def _supervise(
    process: subprocess.Popen[str], limit: float, asked_to_stop: Callable[[], bool], grace: float
) -> str | None:
    """Wait until the process has ended (but isn't reaped, so that its group's number stays taken)."""
    deadline = time.monotonic() + limit
    while not _ended(process):
        if asked_to_stop() or time.monotonic() > deadline:
            told = "MaxRuntimeExceeded" if time.monotonic() > deadline else "Stopped"
            _terminate(process, grace)
            return told
        time.sleep(_POLL_SECONDS)
    return None


def _terminate(process: subprocess.Popen[str], grace: float) -> None:
    processes.signal_own_group(process.pid, signal.SIGTERM)
    patience = time.monotonic() + grace
    while not _ended(process):
        if time.monotonic() > patience:
            processes.signal_own_group(process.pid, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def _ended(process: subprocess.Popen[str]) -> bool:
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _finish(backend: Backend, kind: JobKind, name: str, folder: Folder, ending: Ending, log: JobLog) -> Document:
    fields: dict[str, Any] = {}
    if kind is TRAINING and log.metrics:
        fields["FinalMetricDataList"] = list(log.metrics.values())
    message = outputs.read_text(folder.ml / "output" / "message")
    if kind is not TRAINING and message:
        fields["ExitMessage"] = message
    if ending.told is None and ending.code != 0:
        said = outputs.read_text(folder.ml / "output" / "failure") if kind is TRAINING else message
        return jobs.end(backend, kind, name, "Failed", FailureReason=_reason(ending.code, said), **fields)
    if ending.told is None or kind is TRAINING:
        fields |= _store(backend, kind, name, folder, stopped=ending.told is not None)
    if ending.told is None:
        return jobs.end(backend, kind, name, "Completed", **fields)
    secondary = {"SecondaryStatus": ending.told} if kind is TRAINING else {}
    if kind is not TRAINING and ending.told == "MaxRuntimeExceeded":
        fields.setdefault("ExitMessage", "The job ran longer than MaxRuntimeInSeconds")
    return jobs.end(backend, kind, name, "Stopped", **fields, **secondary)


def _store(backend: Backend, kind: JobKind, name: str, folder: Folder, *, stopped: bool) -> dict[str, Any]:
    if kind is not TRAINING:
        with backend.store.read() as read:
            job = jobs.read(read, kind, name)
        outputs.store_processing(backend, job, folder)
        return {}
    job = jobs.change(backend, kind, name, SecondaryStatus="Uploading")
    if stopped and outputs.is_empty(folder.ml / "model"):
        return {}
    return {"ModelArtifacts": {"S3ModelArtifacts": outputs.store_training(backend, job, folder)}}


def _reason(code: int, said: str) -> str:
    """SageMaker's words for a job that failed, kept within their length with the exit code at the end."""
    if code < 0:
        said = said or f"the job's process was killed by signal {-code} ({signal.Signals(-code).name})"
        code = 128 - code
    ending = f", exit code: {code}"
    return f"AlgorithmError: {said or 'See job logs for more information'}"[: MAX_REASON - len(ending)] + ending


def main(argv: list[str]) -> None:
    """Run the job whose ARN is given."""
    resource, _, name = argv[0].rpartition(":")[2].partition("/")
    kind = next(kind for kind in jobs.KINDS.values() if kind.arn(name).endswith(f":{resource}/{name}"))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    backend = Backend.open()
    if not wait_for(lambda: _recorded(backend, kind, name)):
        return
    if kind is TRANSFORM:
        from medloop.local.hosting.transform import run_transform  # which needs this module

        run_transform(backend, name, stop)
    else:
        run_job(backend, kind, name, stop)


def _recorded(backend: Backend, kind: JobKind, name: str) -> bool:
    with backend.store.read() as read:
        job = read.get(kind.table, name)
    return job is not None and job["_supervisor"]["pid"] == os.getpid()


def wait_for(recorded: Callable[[], bool], seconds: float = 30) -> bool:
    """Wait until the process that started this one has recorded it; False when it never does, having died."""
    deadline = time.monotonic() + seconds
    while not recorded():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
