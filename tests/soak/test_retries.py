"""Kill -9 of engines while steps run, are retried or come from the cache; `executions retry` resumes them.

Each round kills one execution twice (the run and its retry) and then its cached repetition once, at instants
drawn from a seed. In every state, nothing is lost, nothing is created twice, and the result is the same.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

import pytest

from medloop.local.engine import executions
from medloop.local.state.store import Table
from tests.soak.test_kills import (
    NUM_FILES,
    STEPS,
    duration,
    instants,
    keys,
    kill_engine,
    leftovers,
    packages_of,
    pages,
    pipeline,
    processes_of,
    records,
    report,
    state,
    tidy,
)
from tests.unit.local.conftest import Local, wait_until

__all__ = ["tidy"]  # a fixture

pytestmark = pytest.mark.soak

ROUNDS = 10
CACHE = {"Enabled": True, "ExpireAfter": "1d"}
POLICY = {"ExceptionType": ["Step.SERVICE_FAULT"], "IntervalSeconds": 0.2, "BackoffRate": 1.0, "MaxAttempts": 20}
PARAMETERS = [{"Name": "Round", "Type": "String", "DefaultValue": "none"}]


def cached_pipeline(local: Local) -> list[dict[str, Any]]:
    """Prepare -> Train -> Gate -> Register, with cached jobs, and a retry policy for backend errors in Train."""
    prepare, train, gate = pipeline(local)
    prepare["Arguments"]["Environment"] = {"ROUND": {"Get": "Parameters.Round"}}
    return [{**prepare, "CacheConfig": CACHE}, {**train, "CacheConfig": CACHE, "RetryPolicies": [POLICY]}, gate]


def break_training(local: Local) -> None:
    """Replace the folder of training logs by a file: every attempt of Train is a backend error."""
    logs = local.home / "logs/aws/sagemaker/TrainingJobs"
    if logs.exists():
        logs.rename(logs.with_name(f"kept-{time.monotonic_ns()}"))
    logs.parent.mkdir(parents=True, exist_ok=True)
    logs.write_text("in the way")


def fix_training(local: Local) -> None:
    """Remove the file."""
    logs = local.home / "logs/aws/sagemaker/TrainingJobs"
    if logs.is_file():
        logs.unlink()


def kill_after(local: Local, arn: str, seconds: float) -> str:
    """Kill the execution's engine after a time, and return the state in the records."""
    time.sleep(seconds)
    hit = kill_engine(local, arn)
    with records(local).read() as read:
        again = any(step.get("AttemptCount", 1) > 1 for step in read.select(Table.STEPS, arn))
    return f"{state(local, arn)}{' again' if again else ''}" if hit else "not hit"


def ended(local: Local, arn: str) -> str:
    """Wait until the execution has ended, and return its status."""
    wait_until(lambda: local.describe(arn)["PipelineExecutionStatus"] not in executions.RUNNING, 60)
    return str(local.describe(arn)["PipelineExecutionStatus"])


def retry_if_failed(local: Local, arn: str) -> None:
    """Retry the execution if it did not succeed."""
    if ended(local, arn) != "Succeeded":
        local.sagemaker.retry_pipeline_execution(PipelineExecutionArn=arn)


def check_complete(local: Local, arn: str, source: str) -> None:
    """Assert success: every step once, one package, and all outputs of the execution that created them."""
    assert ended(local, arn) == "Succeeded", local.describe(arn)
    assert "FailureReason" not in local.describe(arn)
    steps = local.steps(arn)
    assert list(steps) == STEPS
    assert {step["StepStatus"] for step in steps.values()} == {"Succeeded"}
    assert not any("FailureReason" in step for step in steps.values())
    identifier, made_by = arn.rpartition("/")[2], source.rpartition("/")[2]
    assert packages_of(local, identifier) == 1
    assert len(keys(local, f"runs/{made_by}/prepared")) == NUM_FILES + 1
    assert len(keys(local, f"runs/{made_by}/trained")) == 2
    for name in STEPS[:2]:
        hit = steps[name].get("CacheHitResult", {}).get("SourcePipelineExecutionArn")
        assert hit == (None if arn == source else source), (name, hit)
    wait_until(lambda: not processes_of(arn), 10)
    assert leftovers(local) == []


def test_killed_executions_resume(tidy: Local, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed in its run, in a retry and in a cached repetition, every execution succeeds after `executions retry`."""
    local, draw = tidy, random.Random(7)  # noqa: S311 (a test's)
    steps = cached_pipeline(local)
    first = local.start(steps, PARAMETERS)
    assert local.finish(first)["PipelineExecutionStatus"] == "Succeeded"
    repeated = local.start(steps, PARAMETERS)
    assert local.finish(repeated)["PipelineExecutionStatus"] == "Succeeded"
    length, cached = duration(local, first), duration(local, repeated)
    states: Counter[str] = Counter()
    for number, share in instants(ROUNDS):
        if number % 2:
            break_training(local)
        arn = local.start(steps, PARAMETERS, Round=str(number))
        states[f"run: {kill_after(local, arn, share * length * (1.5 if number % 2 else 1))}"] += 1
        fix_training(local)
        retry_if_failed(local, arn)
        states[f"retry: {kill_after(local, arn, draw.random() * length)}"] += 1
        retry_if_failed(local, arn)
        check_complete(local, arn, arn)
        repeated = local.start(steps, PARAMETERS, Round=str(number))
        states[f"cached: {kill_after(local, repeated, draw.random() * cached)}"] += 1
        retry_if_failed(local, repeated)
        check_complete(local, repeated, arn)
    report(capsys, "engine killed, then retried", states)
    jobs = pages(local.sagemaker, "list_processing_jobs", "ProcessingJobSummaries")
    completed = [job["ProcessingJobStatus"] for job in jobs]
    assert completed.count("Completed") == ROUNDS + 1  # each round was prepared once
    assert sum(count for name, count in states.items() if "not hit" not in name and "ended" not in name) >= ROUNDS
