"""Retry policies of a step, as a definition spells them.

https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-retry-policy.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medloop.definition.read import Step, mappings
from medloop.errors import SettingError

SERVICE_FAULT = "Step.SERVICE_FAULT"
THROTTLING = "Step.THROTTLING"
JOB_INTERNAL_ERROR = "SageMaker.JOB_INTERNAL_ERROR"
CAPACITY_ERROR = "SageMaker.CAPACITY_ERROR"
RESOURCE_LIMIT = "SageMaker.RESOURCE_LIMIT"
EXCEPTION_TYPES = (SERVICE_FAULT, THROTTLING, JOB_INTERNAL_ERROR, CAPACITY_ERROR, RESOURCE_LIMIT)
_LIMITS = {
    "IntervalSeconds": (0, 86_400),
    "BackoffRate": (0, 100),
    "MaxAttempts": (1, 20),
    "ExpireAfterMin": (0, 14_400),
}
"""Least and greatest value; the SDK's own, and generous ones where it has none."""


@dataclass(frozen=True)
class RetryPolicy:
    """When a failed step is tried again.

    Args:
        exceptions: What it is for, of EXCEPTION_TYPES.
        interval: Seconds before the first retry.
        backoff: What the interval is multiplied by for each further one.
        max_attempts: The most retries; None: no limit.
        expire_minutes: No retry begins later than this after the step's start; None: no limit.
    """

    exceptions: frozenset[str]
    interval: float
    backoff: float
    max_attempts: int | None
    expire_minutes: float | None

    def wait(self, retries: int, elapsed: float) -> float | None:
        """Seconds to wait before the next retry, or None for no more.

        Args:
            retries: How many this policy has had.
            elapsed: Seconds since the step began.
        """
        seconds = self.interval * self.backoff**retries
        if self.max_attempts is not None and retries >= self.max_attempts:
            return None
        if self.expire_minutes is not None and elapsed + seconds > 60 * self.expire_minutes:
            return None
        return seconds


def read_policies(step: Step) -> tuple[RetryPolicy, ...]:
    """A step's policies, the first of which that names an exception holds for it.

    Raises:
        SettingError: One of them isn't what the service takes.
    """
    return tuple(_policy(step, document) for document in mappings(step.document.get("RetryPolicies")))


def _policy(step: Step, document: dict[str, Any]) -> RetryPolicy:
    types = document.get("ExceptionType")
    if not isinstance(types, list) or not types or not set(map(str, types)) <= set(EXCEPTION_TYPES):
        raise _wrong(step, f"ExceptionType must be a list of {', '.join(EXCEPTION_TYPES)}")
    if ("MaxAttempts" in document) == ("ExpireAfterMin" in document):
        raise _wrong(step, "must have either MaxAttempts or ExpireAfterMin")
    numbers = {"IntervalSeconds": 1.0, "BackoffRate": 2.0} | {
        name: _number(step, name, document[name], *limits) for name, limits in _LIMITS.items() if name in document
    }
    attempts = numbers.get("MaxAttempts")
    return RetryPolicy(
        frozenset(map(str, types)),
        numbers["IntervalSeconds"],
        numbers["BackoffRate"],
        None if attempts is None else int(attempts),
        numbers.get("ExpireAfterMin"),
    )


def _number(step: Step, name: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _wrong(step, f"{name} must be a number from {low} to {high}, not {value!r}")
    return float(value)


def _wrong(step: Step, message: str) -> SettingError:
    return SettingError(f"step {step.name}: a retry policy is wrong: {message}")
