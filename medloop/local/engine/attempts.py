"""A step's attempts: the step cache first, then a run, and further runs as its retry policies say.

AWS's exceptions on the local backend: no memory, no disk space or no more processes is
SageMaker.CAPACITY_ERROR; a service's ResourceLimitExceeded is SageMaker.RESOURCE_LIMIT; a database that is busy is
Step.THROTTLING; any other error of the backend is SageMaker.JOB_INTERNAL_ERROR where a job had begun, else
Step.SERVICE_FAULT. A job that fails by itself (AlgorithmError), wrong input (ClientError) and a Fail step never are
retried.
"""

from __future__ import annotations

import re
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from medloop.definition.read import Step
from medloop.definition.retrying import (
    CAPACITY_ERROR,
    JOB_INTERNAL_ERROR,
    RESOURCE_LIMIT,
    SERVICE_FAULT,
    THROTTLING,
    RetryPolicy,
    read_policies,
)
from medloop.definition.step_types import type_of
from medloop.local.engine import step_cache
from medloop.local.engine.step_cache import Lookup
from medloop.local.engine.step_runs.base import StepResult, StepRun
from medloop.local.engine.step_runs.runners import run_step
from medloop.local.errors import INTERNAL, TRANSIENT
from medloop.local.state.store import Document

_FAULTS = {
    CAPACITY_ERROR: re.compile(r"MemoryError|\[Errno (11|12|28)\]|InsufficientCapacity|CapacityError"),
    RESOURCE_LIMIT: re.compile(r"ResourceLimitExceeded"),
    THROTTLING: re.compile(r"ThrottlingException|database is locked|another process has locked it"),
}
_OURS = re.compile("|".join([INTERNAL, "CapacityError", *sorted(TRANSIENT)]))


@dataclass(frozen=True)
class Attempted:
    """A step's result, and its entry for the step cache under a key (empty for no entry)."""

    result: StepResult
    cache_key: str = ""
    cache_entry: Document | None = None


def attempt(run: StepRun, runner: Callable[[StepRun], StepResult] = run_step) -> Attempted:
    """Take a step's result from the cache, or have `runner` (it raises nothing) run it until no retry is left."""
    lookup = _look_up(run)
    if lookup.hit is not None:
        return Attempted(lookup.hit)
    if lookup.note:
        print(f"{run.step.name}: {lookup.note}", flush=True)
    result = _retried(replace(run, note=lookup.note), runner)
    if result.status != "Succeeded" or not lookup.key:
        return Attempted(result)
    return _remembered(run, lookup.key, result)


def exception_type(result: StepResult) -> str | None:
    """The AWS exception type of a failed step; None if its own work failed, which isn't retried."""
    if not _OURS.match(result.reason):
        return None
    for name, pattern in _FAULTS.items():
        if pattern.search(result.reason):
            return name
    return JOB_INTERNAL_ERROR if result.metadata else SERVICE_FAULT


def _look_up(run: StepRun) -> Lookup:
    """Look the step up in the cache; an error there costs the hit, never the step."""
    try:
        return step_cache.look_up(run.backend, run.execution, run.step, run.scope)
    except Exception:
        traceback.print_exc()
        return Lookup()


def _remembered(run: StepRun, key: str, result: StepResult) -> Attempted:
    try:
        return Attempted(result, key, step_cache.entry_of(run.backend, run.execution, run.step, result))
    except Exception:
        traceback.print_exc()
        return Attempted(result)


def _retried(run: StepRun, runner: Callable[[StepRun], StepResult]) -> StepResult:
    policies = read_policies(run.step)
    retries: Counter[RetryPolicy] = Counter()
    begin = time.monotonic()
    while True:
        result = runner(run)
        policy = _policy_for(run.step, result, policies)
        wait = policy.wait(retries[policy], time.monotonic() - begin) if policy else None
        if policy is None or wait is None or run.stop.is_set():
            return result
        retries[policy] += 1
        run.show(FailureReason=f"{result.reason} (attempt {retries.total() + 1} begins in {wait:.0f} s)")
        if run.stop.wait(wait):
            return StepResult("Stopped", metadata=result.metadata)
        run.begin_again()


def _policy_for(step: Step, result: StepResult, policies: tuple[RetryPolicy, ...]) -> RetryPolicy | None:
    kind = exception_type(result) if result.status == "Failed" else None
    if kind not in type_of(step).retried:
        return None
    return next((policy for policy in policies if kind in policy.exceptions), None)
