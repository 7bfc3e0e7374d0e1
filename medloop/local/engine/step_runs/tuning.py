"""Runner of Tuning steps."""

from __future__ import annotations

from medloop.local import processes
from medloop.local.engine.step_runs.base import StepResult, StepRun, StepRunner
from medloop.local.jobs.job import TUNING
from medloop.local.state.home import new_id
from medloop.local.state.store import Table
from medloop.local.tuning import tuning_jobs
from medloop.local.tuning.running import run_tuning
from medloop.local.tuning.tuning_jobs import NAME, STATUS


class Tuning(StepRunner):
    """Runs a tuning job."""

    def run(self, run: StepRun) -> StepResult:
        """See StepRunner."""
        name = _name(run)
        request = run.request(**{NAME: name})
        metadata = {"TuningJob": {"Arn": TUNING.arn(name)}}
        with run.backend.store.write() as write:
            document = tuning_jobs.create(write, TUNING, request, processes.own_identity)
            write.put(Table.TUNING_JOBS, name, {**document, "_execution": run.execution})
            run.refer(write, Metadata=metadata, _job_decides=True)
        ended = run_tuning(run.backend, name, run.stop)
        if ended[STATUS] == "Completed":
            with run.backend.store.read() as transaction:
                return StepResult("Succeeded", tuning_jobs.properties(transaction, ended), metadata)
        if ended[STATUS] == "Stopped" and run.stop.is_set():
            return StepResult("Stopped", metadata=metadata)
        reason = ended.get("FailureReason") or f"ClientError: {name} was stopped"
        return StepResult("Failed", metadata=metadata, reason=reason)


def _name(run: StepRun) -> str:
    """Return a job's name as the service forms it: unique, at most 32 characters, with the step's name."""
    ending = f"-{new_id(8)}"
    begin = f"{run.execution.rpartition('/')[2][:12]}-{run.step.name.replace('_', '-')}"
    return begin[: tuning_jobs.MAX_NAME - len(ending)].rstrip("-") + ending
