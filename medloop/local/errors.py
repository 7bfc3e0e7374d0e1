"""Errors of the emulated services; `session` turns them into botocore's ClientError."""

from __future__ import annotations


class ServiceError(Exception):
    """What the service would answer to a wrong request.

    Args:
        code: The service's error code, such as `ValidationException`.
        message: The service's message.
        status: HTTP status.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def invalid(message: str) -> ServiceError:
    """A request that the service refuses."""
    return ServiceError("ValidationException", message)


def not_found(message: str) -> ServiceError:
    """A resource that doesn't exist."""
    return ServiceError("ResourceNotFound", message)


def in_use(message: str) -> ServiceError:
    """A name that is taken, or a resource that is busy."""
    return ServiceError("ResourceInUse", message)
