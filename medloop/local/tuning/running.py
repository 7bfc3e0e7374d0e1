"""Runs one tuning job: rounds of parallel trials until its limits are reached.

The engine runs an execution's tuning jobs in its threads; one of no pipeline has a process (`medloop.local.runner`).
Trials run in threads of the same process, each job in a process of its own.
"""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from medloop.local.errors import MAX_REASON, RequestError, failure_reason
from medloop.local.jobs.job import TRAINING, TUNING, Job, create_own_job
from medloop.local.jobs.running import run_job
from medloop.local.state.backend import Backend
from medloop.local.state.home import new_id
from medloop.local.state.store import Document, pick
from medloop.local.tuning import tuning_jobs
from medloop.local.tuning.search import Search, SearchTrial, grid
from medloop.local.tuning.tuning_jobs import TuningJob
from medloop.log_metrics import find_metrics, metric_patterns

_POLL_SECONDS = 0.2
_MAX_WITHOUT_OBJECTIVE = 5
"""A tuning job fails once this many trials, all of them, have no objective, as on SageMaker."""


@dataclass
class TrialRun:
    """A trial of the search, its training job, that job's log, and the objective's regular expression by its name."""

    trial: SearchTrial
    job: Job
    log: Path
    patterns: dict[str, re.Pattern[str]]
    stop: threading.Event = field(default_factory=threading.Event)
    _read: int = 0

    def new_values(self) -> list[float]:
        """The objective's values that were logged since the last call."""
        try:
            with self.log.open("rb") as file:
                file.seek(self._read)
                text = file.read()
        except OSError:
            return []
        complete = text[: text.rfind(b"\n") + 1]
        self._read += len(complete)
        lines = complete.decode("utf-8", errors="replace").splitlines()
        return [value for line in lines for _, value in find_metrics(line.partition(" ")[2], self.patterns)]


class TuningRun:
    """A running tuning job.

    Args:
        backend: The backend.
        document: Its record, whose supervisor is this process.
        stop: Set from outside to stop it.
    """

    def __init__(self, backend: Backend, document: Document, stop: threading.Event) -> None:
        self.backend = backend
        self.document = document
        self.job = TuningJob.recorded(backend, TUNING, document)
        self.stop = stop
        config, definition = document[tuning_jobs.CONFIG], document["TrainingJobDefinition"]
        with backend.store.read() as transaction:
            known = tuning_jobs.known_trials(transaction, document)
        self.search = Search(config, definition.get("StaticHyperParameters") or {}, known)
        limits = config["ResourceLimits"]
        self.max_jobs: int = limits.get("MaxNumberOfTrainingJobs") or len(grid(self.search.ranges))
        self.parallel: int = limits["MaxParallelTrainingJobs"]
        runtime = limits.get("MaxRuntimeInSeconds")
        self.deadline = time.monotonic() + runtime if runtime else None
        metric = config["HyperParameterTuningJobObjective"]["MetricName"]
        patterns = metric_patterns(definition["AlgorithmSpecification"].get("MetricDefinitions"))
        self.patterns = {metric: patterns[metric]}
        self.objectives: list[float | None] = []
        self.reason = ""

    def run(self) -> Document:
        """Run all rounds; returns the record as it ended."""
        while len(self.objectives) < self.max_jobs and not self._is_over() and not self._has_no_objective():
            drawn = self.search.draw(min(self.parallel, self.max_jobs - len(self.objectives)))
            if not drawn:
                break
            self._round(drawn)
        if self.stop.is_set() or self._is_stopping():
            return self.job.end("Stopped")
        if all(value is None for value in self.objectives):
            return self.job.end("Failed", FailureReason=self._failure()[:MAX_REASON])
        return self.job.end("Completed")

    def _round(self, drawn: list[SearchTrial]) -> None:
        with ThreadPoolExecutor(len(drawn)) as pool:
            runs = [self._start(trial) for trial in drawn]
            futures: list[Future[Document]] = [pool.submit(run_job, run.job, run.stop) for run in runs]
            while not all(future.done() for future in futures):
                wait(futures, _POLL_SECONDS)
                over = self._is_over()
                for run in runs:
                    if over or self._is_behind(run):
                        run.stop.set()
        values = []
        for run, future in zip(runs, futures, strict=True):
            job = future.result()
            self._is_behind(run)  # values between the last poll and the end
            objective = tuning_jobs.objective(self.document, job)
            completed = job["TrainingJobStatus"] in ("Completed", "Stopped") and objective is not None
            values.append(objective["Value"] if completed and objective else None)
            self.reason = self.reason or job.get("FailureReason", "")
        self.search.end_round(drawn, values)
        self.objectives += values

    def _start(self, trial: SearchTrial) -> TrialRun:
        request = tuning_jobs.trial_request(self.document, trial.number, trial.hyperparameters, new_id(8))
        with self.backend.store.write() as write:
            tuning = {"TuningJobArn": self.document[tuning_jobs.ARN], "_tuned": trial.hyperparameters}
            document = create_own_job(write, TRAINING, request, **tuning, **pick(self.document, "_execution"))
        job = Job.recorded(self.backend, TRAINING, document)
        return TrialRun(trial, job, job.log.path, self.patterns)

    def _is_behind(self, run: TrialRun) -> bool:
        return any([self.search.report(run.trial, value) for value in run.new_values()]) or run.trial.stopped

    def _is_over(self) -> bool:
        late = self.deadline is not None and time.monotonic() > self.deadline
        return late or self.stop.is_set() or self._is_stopping()

    def _is_stopping(self) -> bool:
        return bool(self.job.read()[tuning_jobs.STATUS] == "Stopping")

    def _has_no_objective(self) -> bool:
        return len(self.objectives) >= _MAX_WITHOUT_OBJECTIVE and all(value is None for value in self.objectives)

    def _failure(self) -> str:
        if self.reason:
            return f"All training jobs failed. The first one: {self.reason}"
        return (
            f"No objective metrics found after running {len(self.objectives)} training jobs. Please ensure that the "
            f"algorithm is emitting the objective metric as defined by the regular expression provided."
        )


def run_tuning(backend: Backend, name: str, stop: threading.Event) -> Document:
    """Run a recorded tuning job to its end; in any case the record gets that end.

    Args:
        backend: The backend.
        name: A tuning job in progress whose supervisor is this process.
        stop: Ends it, and its trials, when set.
    """
    job = TuningJob(backend, TUNING, name)
    document = job.read()
    try:
        return TuningRun(backend, document, stop).run()
    except BaseException as error:
        ended = job.end("Failed", FailureReason=failure_reason(error))
        if not isinstance(error, RequestError):
            raise
        return ended
