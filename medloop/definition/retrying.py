"""Retry policies of a step.

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
"""Smallest and largest value: the SDK's, or wide ones if it has none."""


@dataclass(frozen=True)
class RetryPolicy:
    """A policy for retrying a failed step.

    Args:
        exceptions: The exceptions that it retries, of EXCEPTION_TYPES.
        interval: Seconds before the first retry.
        backoff: Factor of the interval for each further retry.
        max_attempts: The largest number of retries; None: no limit.
        expire_minutes: No retry starts later than this after the step's start; None: no limit.
    """

    exceptions: frozenset[str]
    interval: float
    backoff: float
    max_attempts: int | None
    expire_minutes: float | None

    def wait(self, retries: int, elapsed: float) -> float | None:
        """Return the seconds before the next retry; None if there is no further retry.

        Args:
            retries: Number of retries by this policy so far.
            elapsed: Seconds since the step started.
        """
        seconds = self.interval * self.backoff**retries
        if self.max_attempts is not None and retries >= self.max_attempts:
            return None
        if self.expire_minutes is not None and elapsed + seconds > 60 * self.expire_minutes:
            return None
        return seconds


def read_policies(step: Step) -> tuple[RetryPolicy, ...]:
    """Read a step's policies; the first that names an exception applies to it.

    Raises:
        SettingError: The service would refuse a policy.
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
