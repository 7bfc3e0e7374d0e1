"""Runs one execution; the stages of every execution, from its start to its end, are described here.

1. **Start** (`api.executions`): one transaction records the execution and starts its process, `medloop.local.runner`.
   The process waits for its record, then runs the `Engine` of this module.
2. **Engine** (here): a step starts when all that it refers to or depends on has succeeded, and its Condition has taken
   its branch; independent steps run concurrently, each in a thread. When a step fails, those that run are finished and
   nothing new starts, as on SageMaker.
3. **Attempt** (`attempts`): an earlier result from the step cache (`step_cache`), else the step is run by the runner of
   its type (`step_runs`), and again as its retry policies say. `expressions` resolves its arguments.
4. **Job** (`jobs.job`, `jobs.running`): the runner records a job whose supervisor is this process, and runs it.
   Trials of a tuning job (`tuning.running`) and transform jobs (`hosting.transform`) are jobs as well.
5. **Staging** (`jobs.staging`): below `<home>/jobs/<job>`, the folders, linked inputs, code, command and the
   environment that SageMaker's container contract promises. The process is started, and its lines become its log.
6. **Outputs** (`jobs.outputs`): packed or moved into the object store; then the job's record ends.
7. **Cache**: one transaction ends the step's record, puts its result into the step cache, and starts the records of
   the steps that are next. Back to 2; when nothing is left to run, the execution's record ends.

Nothing acknowledged is lost when a process is killed at any instant, because of the order of the writes:
a record names its process before the process acts; a job's temporary folder is recorded before it is made, and the list
of its outputs is written before the first is stored; a reader that finds a process dead (`executions.reap`, `Job.reap`,
`TuningJob.reap`) cleans up first and records the end last, so that it may be killed as well. A retry begins with
the steps that have succeeded.
"""

from __future__ import annotations

import datetime
import os
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from medloop.definition.read import OUTCOMES, Definition, Step
from medloop.definition.step_types import type_of
from medloop.local.engine import executions, step_cache
from medloop.local.engine.attempts import Attempted, attempt
from medloop.local.engine.expressions import Scope
from medloop.local.engine.graph import read_graph, typed_parameters
from medloop.local.engine.results import recorded
from medloop.local.engine.step_runs.base import StepResult, StepRun
from medloop.local.errors import failure_reason
from medloop.local.requests import prepare
from medloop.local.state.backend import Backend
from medloop.local.state.home import now
from medloop.local.state.store import Document, Table, Transaction

_POLL_SECONDS = 0.1
_MAX_REASON = 1300
_FAILED = "Step failure: One or multiple steps failed"


class Engine:
    """A running execution.

    Args:
        backend: The backend.
        execution: The execution's record, whose engine is this process.
        stop: Set from outside to stop the execution.
    """

    def __init__(self, backend: Backend, execution: Document, stop: threading.Event) -> None:
        self.backend = backend
        self.arn: str = execution["PipelineExecutionArn"]
        self.definition: Definition = read_graph(execution["_definition"])
        self.scope = _scope(backend, execution, self.definition)
        self.limit = _limit(execution)
        self.stop = stop
        self.stopping = False
        self.results: dict[str, StepResult] = {}
        self.left_out: set[str] = set()
        self.running: dict[Future[Attempted], Step] = {}
        self.attempts: dict[str, int] = execution.get("_attempts", {})
        self._take_over(execution)

    def _take_over(self, execution: Document) -> None:
        """Begin with the steps that have succeeded: before a retry, or in the source of a selective execution."""
        with self.backend.store.read() as read:
            done = [step for step in read.select(Table.STEPS, self.arn) if step["StepStatus"] == "Succeeded"]
            for record in done:
                self._know(record["StepName"], recorded(read, execution, record))
        for name in [record["StepName"] for record in done if "_properties" not in record]:
            self._remember(self.definition.step(name))
        if selective := execution.get("SelectiveExecutionConfig"):
            selected = {step["StepName"] for step in selective["SelectedSteps"]}
            self.left_out = {step.name for step in self.definition.steps} - selected - set(self.results)

    def _remember(self, step: Step) -> None:
        """Put the result of a step into the cache whose job had completed when its engine died."""
        key, result = step_cache.key_of(self.backend, self.arn, step, self.scope), self.results[step.name]
        if key:
            entry = step_cache.entry_of(self.backend, self.arn, step, result)
            with self.backend.store.write() as write:
                step_cache.remember(write, key, entry)

    def run(self) -> None:
        """Run all steps, then record how the execution ended."""
        ended: list[tuple[Step, Attempted]] = []
        if any(type_of(step).creates == "CreateModelPackage" for step in self.definition.steps):
            threading.Thread(target=prepare).start()  # while the steps before the registration are waited for
        with ThreadPoolExecutor(self.limit) as pool:
            while True:
                self._see_stop()
                self._leave_out()
                self._change_steps(pool, ended)
                if not self.running:
                    break
                done = wait(self.running, _POLL_SECONDS, FIRST_COMPLETED).done
                ended = [(self.running.pop(future), future.result()) for future in done]
                for step, attempted in ended:
                    self._know(step.name, attempted.result)
        status, reason = self._outcome()
        with self.backend.store.write() as write:
            fields = {"FailureReason": reason[:_MAX_REASON]} if reason else {}
            executions.change(write, self.arn, PipelineExecutionStatus=status, **fields)

    def _see_stop(self) -> None:
        with self.backend.store.read() as read:
            status = executions.read(read, self.arn)["PipelineExecutionStatus"]
        if status != "Executing":
            self.stop.set()
        if self.stop.is_set() and not self.stopping:
            self.stopping = True
            with self.backend.store.write() as write:
                executions.change(write, self.arn, PipelineExecutionStatus="Stopping")
                for step in self.running.values():
                    executions.change_step(write, self.arn, step.name, StepStatus="Stopping")

    def _leave_out(self) -> None:
        """Leave out the steps of branches not taken, and the steps that depend on them."""
        pending = [step for step in self.definition.steps if self._is_pending(step)]
        off = {step.name for step in pending if step.needs & self.left_out or self._is_off(step)}
        self.left_out |= off
        if off:
            self._leave_out()

    def _is_pending(self, step: Step) -> bool:
        return step.name not in self.results and step.name not in self.left_out and step not in self.running.values()

    def _is_off(self, step: Step) -> bool:
        if step.branch is None or step.branch[0] not in self.results:
            return False
        condition, outcome = step.branch
        return self.results[condition].properties.get("Outcome") != OUTCOMES[outcome]

    def _startable(self) -> list[Step]:
        if self.stop.is_set() or any(result.status != "Succeeded" for result in self.results.values()):
            return []
        pending = [step for step in self.definition.steps if self._is_pending(step)]
        ready = [step for step in pending if step.needs <= set(self.results)]
        return ready[: self.limit - len(self.running)]

    def _change_steps(self, pool: ThreadPoolExecutor, ended: list[tuple[Step, Attempted]]) -> None:
        """Record the steps that ended and those that start now, in one transaction; then start these."""
        starting = self._startable()
        if ended or starting:
            with self.backend.store.write() as write:
                for step, attempted in ended:
                    self._record_end(write, step, attempted)
                for step in starting:
                    self._record_start(write, step)
        for step in starting:
            run = StepRun(self.backend, self.arn, step, self.scope, self.stop)
            self.running[pool.submit(attempt, run)] = step

    def _record_start(self, write: Transaction, step: Step) -> None:
        fields: dict[str, Any] = {"StepStatus": "Executing", "StartTime": now()}
        fields["AttemptCount"] = self.attempts.get(step.name, 0) + 1
        fields |= {
            f"Step{name}": step.document[name] for name in ("DisplayName", "Description") if name in step.document
        }
        executions.change_step(write, self.arn, step.name, **fields)

    def _record_end(self, write: Transaction, step: Step, attempted: Attempted) -> None:
        executions.change_step(write, self.arn, step.name, **attempted.result.ending())
        if attempted.cache_entry:
            step_cache.remember(write, attempted.cache_key, attempted.cache_entry)

    def _know(self, name: str, result: StepResult) -> None:
        self.results[name] = result
        self.scope.steps[name] = result.properties
        for file, uri in result.property_files.items():
            self.scope.property_files[name, file] = uri

    def _outcome(self) -> tuple[str, str]:
        failed = [f"{name}: {result.reason}" for name, result in self.results.items() if result.status == "Failed"]
        if self.stop.is_set():
            return "Stopped", ""
        if failed:
            return "Failed", f"{_FAILED}. {' '.join(failed)}"
        return "Succeeded", ""


def _scope(backend: Backend, execution: Document, definition: Definition) -> Scope:
    arn, pipeline = execution["PipelineExecutionArn"], execution["PipelineArn"]
    started = datetime.datetime.fromtimestamp(execution["CreationTime"], datetime.UTC).isoformat()
    variables = {
        "PipelineExecutionArn": arn,
        "PipelineExecutionId": arn.rpartition("/")[2],
        "PipelineArn": pipeline,
        "PipelineName": pipeline.rpartition("/")[2],
        "StartDateTime": started,
        "CurrentDateTime": started,
    }
    return Scope(typed_parameters(definition.parameters, execution["_parameters"]), variables, backend.objects.read)


def _limit(execution: Document) -> int:
    """The number of concurrent steps: as the execution requests, at most the number of cores."""
    cores = len(os.sched_getaffinity(0))
    requested: int = execution.get("ParallelismConfiguration", {}).get("MaxParallelExecutionSteps", cores)
    return max(1, min(requested, cores))


def run_execution(backend: Backend, arn: str, stop: threading.Event) -> None:
    """Run a recorded execution; a bug in the engine ends it as Failed, with the error as the reason, and is raised."""
    with backend.store.read() as read:
        execution = executions.read(read, arn)
    try:
        Engine(backend, execution, stop).run()
    except BaseException as error:
        with backend.store.write() as write:
            executions.change(write, arn, PipelineExecutionStatus="Failed", FailureReason=failure_reason(error))
        raise
