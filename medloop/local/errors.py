"""Errors of the local backend, and the reasons that clients read of them.

    Exception
    ├── RequestError          a request that can't be done as it was made: no retry helps
    │   ├── ServiceError      refused by the service, with its error code
    │   ├── StagingError      accepted by SageMaker, and failed by it later: an image, an input, a path
    │   ├── StartError        a serving container that doesn't come up
    │   └── ExpressionError   a pipeline expression that has no value
    └── any other             a bug, or a problem of this computer: no memory, no disk space

A client's call meets a ServiceError, which `session` turns into botocore's ClientError. A job, a tuning job, a step or
an execution that an error ends has `failure_reason` of it; a step whose request is refused has `refusal_reason`.
`engine.attempts` reads from the beginning of a reason whether the step may be tried again.
"""

from __future__ import annotations

import re
from typing import Any

MAX_REASON = 1024
INTERNAL = "InternalServerError"
TRANSIENT = frozenset({"ResourceLimitExceeded", "ThrottlingException"})
"""Errors of a service that may be gone at the next attempt."""


class RequestError(Exception):
    """A request that can't be done as it was made; the message is for its author."""


class ServiceError(RequestError):
    """A service's response to a wrong request.

    Args:
        code: The service's error code, such as `ValidationException`.
        message: The service's message.
        status: HTTP status.
        fields: Members of the service's model of this error in addition to its message.
    """

    def __init__(self, code: str, message: str, status: int = 400, fields: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.fields = fields or {}


class StagingError(RequestError):
    """A job or a container that SageMaker would accept and fail later."""


class StartError(RequestError):
    """A serving container that doesn't come up."""


class ExpressionError(RequestError):
    """A pipeline expression that has no value; the message says which one and why."""


def failure_reason(error: BaseException) -> str:
    """The FailureReason of what an error ended."""
    if isinstance(error, RequestError):
        return f"ClientError: {error}"[:MAX_REASON]
    return f"{INTERNAL}: {type(error).__name__}: {error}"[:MAX_REASON]


def refusal_reason(operation: str, error: ServiceError) -> str:
    """The FailureReason of a step whose request the service refused; a transient one begins with the service's code."""
    lead = error.code if error.code in TRANSIENT else "ClientError"
    return f"{lead}: Failed to invoke sagemaker:{operation}. Error Details: {error.message}"


def invalid(message: str) -> ServiceError:
    """A request that the service refuses."""
    return ServiceError("ValidationException", message)


def check_name(field: str, name: str, length: int) -> None:
    """Check a resource's name as the service does: letters, digits and inner hyphens.

    Raises:
        ServiceError: ValidationException that names the field.
    """
    if len(name) > length or not re.fullmatch(r"[A-Za-z0-9](-*[A-Za-z0-9])*", name):
        rule = f"1 to {length} letters, digits and hyphens between them"
        raise invalid(f"1 validation error detected: Value '{name}' at '{field}' must be {rule}")


def not_found(message: str) -> ServiceError:
    """A resource that doesn't exist."""
    return ServiceError("ResourceNotFound", message)


def in_use(message: str) -> ServiceError:
    """A name that is taken, or a resource that is busy."""
    return ServiceError("ResourceInUse", message)
