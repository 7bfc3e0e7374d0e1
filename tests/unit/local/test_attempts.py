"""What of a step's failures is tried again, how often and when; the runner and the clock's waits are fakes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from medloop.definition.read import Step
from medloop.definition.retrying import read_policies
from medloop.errors import SettingError
from medloop.local.engine import executions
from medloop.local.engine.attempts import attempt, exception_type
from medloop.local.engine.expressions import Scope
from medloop.local.engine.step_runs.base import StepResult, StepRun
from medloop.local.errors import ServiceError, invalid, refusal_reason
from medloop.local.state.backend import Backend
from medloop.local.state.store import Table

JOB = {"TrainingJob": {"Arn": "arn"}}
POLICIES = [
    {"ExceptionType": ["Step.SERVICE_FAULT"], "IntervalSeconds": 1, "BackoffRate": 1.0, "MaxAttempts": 1},
    {
        "ExceptionType": ["SageMaker.JOB_INTERNAL_ERROR", "SageMaker.CAPACITY_ERROR"],
        "IntervalSeconds": 2,
        "BackoffRate": 3.0,
        "MaxAttempts": 3,
    },
]


class Clock(threading.Event):
    """A stop event whose waits take no time; keeps how long they would have been."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []
        self.stop_at: int | None = None

    def wait(self, timeout: float | None = None) -> bool:
        """Note the time-out; stop where the test wants it."""
        self.waits.append(timeout)
        if self.stop_at == len(self.waits):
            self.set()
        return self.is_set()


def failed(reason: str, metadata: dict[str, Any] | None = None) -> StepResult:
    """A failed attempt."""
    return StepResult("Failed", metadata=metadata or {}, reason=reason)


@pytest.fixture
def backend(tmp_path: Any) -> Backend:
    """A backend with one running step."""
    backend = Backend.open(tmp_path / "home")
    pipeline = "arn:aws:sagemaker:us-east-1:000000000000:pipeline/p"
    with backend.store.write() as write:
        write.put(Table.PIPELINES, "p", {})
        write.put(Table.EXECUTIONS, f"{pipeline}/execution/e", {}, parent="p")
        executions.change_step(write, f"{pipeline}/execution/e", "Train", StepStatus="Executing", AttemptCount=1)
    return backend


def run(
    backend: Backend,
    results: list[StepResult],
    clock: Clock,
    policies: list[Any] | None = None,
    step_type: str = "Training",
) -> tuple[StepResult, dict[str, Any]]:
    """A step whose attempts end as given; its result and its record."""
    document = {"Name": "Train", "Type": "Training", "RetryPolicies": POLICIES if policies is None else policies}
    arn = "arn:aws:sagemaker:us-east-1:000000000000:pipeline/p/execution/e"
    step = Step("Train", step_type, {}, document, frozenset())
    left: Iterator[StepResult] = iter(results)
    ended = attempt(StepRun(backend, arn, step, Scope({}, {}, lambda uri: b""), clock), lambda _: next(left)).result
    assert list(left) == []
    with backend.store.read() as read:
        return ended, read.get(Table.STEPS, f"{arn}/Train") or {}


def test_passing_faults_are_tried_again_with_growing_waits(backend: Backend) -> None:
    """Each policy counts its own retries; the count of attempts is on the record and the passed failure isn't."""
    internal, capacity = (
        failed("InternalServerError: ValueError: x", JOB),
        failed("InternalServerError: OSError: [Errno 28] No space left on device", JOB),
    )
    results = [internal, capacity, failed("InternalServerError: KeyError: y"), internal, StepResult("Succeeded")]
    clock = Clock()
    ended, record = run(backend, results, clock)
    assert ended.status == "Succeeded"
    assert clock.waits == [2, 6, 1, 18]
    assert (record["AttemptCount"], "FailureReason" in record) == (5, False)


def test_attempts_end_where_the_policy_says(backend: Backend) -> None:
    """MaxAttempts counts retries; the last failure is the step's."""
    results = [failed(f"InternalServerError: {number}", JOB) for number in range(4)]
    ended, record = run(backend, results, Clock())
    assert (ended.reason, record["AttemptCount"]) == ("InternalServerError: 3", 4)


def test_a_tuning_job_is_left_to_its_own_retries(backend: Backend) -> None:
    """The service doesn't retry a Tuning step for JOB_INTERNAL_ERROR under any policy."""
    ended, record = run(backend, [failed("InternalServerError: x", JOB)], Clock(), step_type="Tuning")
    assert (ended.status, record["AttemptCount"]) == ("Failed", 1)


def test_no_retry_begins_after_the_policy_has_expired(backend: Backend) -> None:
    """ExpireAfterMin counts from the step's start and includes the wait."""
    policy = {"ExceptionType": ["Step.SERVICE_FAULT"], "IntervalSeconds": 61, "ExpireAfterMin": 1}
    clock = Clock()
    run(backend, [failed("InternalServerError: x")], clock, [policy])
    assert clock.waits == []
    run(backend, [failed("InternalServerError: x"), StepResult("Succeeded")], clock, [{**policy, "ExpireAfterMin": 2}])
    assert clock.waits == [61]


def test_stop_ends_the_wait(backend: Backend) -> None:
    """A step that waits for its next attempt is stopped at once, and the record says what it waited for."""
    clock = Clock()
    clock.stop_at = 1
    ended, record = run(backend, [failed("InternalServerError: x", JOB)], clock)
    assert ended.status == "Stopped"
    assert record["FailureReason"] == "InternalServerError: x (attempt 2 begins in 2 s)"


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (failed("AlgorithmError: out of memory, exit code: 1", JOB), None),
        (failed("AlgorithmError: InternalServerError: [Errno 28], exit code: 1", JOB), None),
        (failed("ClientError: no such bucket", JOB), None),
        (failed("score 0.1 is below 0.5", {"Fail": {}}), None),
        (failed(refusal_reason("CreateTrainingJob", invalid("bad")), None), None),
        (
            failed(refusal_reason("CreateEndpoint", ServiceError("ResourceLimitExceeded", "4 at most"))),
            "SageMaker.RESOURCE_LIMIT",
        ),
        (failed("InternalServerError: ValueError: x", JOB), "SageMaker.JOB_INTERNAL_ERROR"),
        (failed("InternalServerError: ValueError: x"), "Step.SERVICE_FAULT"),
        (failed("InternalServerError: MemoryError: ", JOB), "SageMaker.CAPACITY_ERROR"),
        (failed("InternalServerError: BlockingIOError: [Errno 11] no processes", JOB), "SageMaker.CAPACITY_ERROR"),
        (failed("InternalServerError: TargetError: db: (database is locked)"), "Step.THROTTLING"),
    ],
)
def test_each_failure_has_its_exception_type(result: StepResult, expected: str | None) -> None:
    """Only faults that may be gone the next time have an exception type."""
    assert exception_type(result) == expected


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"ExceptionType": ["Step.OTHER"], "MaxAttempts": 1}, "ExceptionType must be a list of Step.SERVICE_FAULT"),
        ({"ExceptionType": [], "MaxAttempts": 1}, "ExceptionType must be a list"),
        ({"ExceptionType": ["Step.THROTTLING"]}, "either MaxAttempts or ExpireAfterMin"),
        ({"ExceptionType": ["Step.THROTTLING"], "MaxAttempts": 21}, "MaxAttempts must be a number from 1 to 20"),
        ({"ExceptionType": ["Step.THROTTLING"], "MaxAttempts": True}, "not True"),
        ({"ExceptionType": ["Step.THROTTLING"], "MaxAttempts": 2, "BackoffRate": "x"}, "BackoffRate"),
    ],
)
def test_wrong_policies_are_refused_by_name(policy: dict[str, Any], message: str) -> None:
    """What the SDK and the service refuse."""
    step = Step("Train", "Training", {}, {"RetryPolicies": [policy]}, frozenset())
    with pytest.raises(SettingError, match=f"step Train: a retry policy .*{message}"):
        read_policies(step)
