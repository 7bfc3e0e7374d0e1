"""Errors of the emulated services; `session` turns them into botocore's ClientError."""

from __future__ import annotations

import re
from typing import Any


class ServiceError(Exception):
    """What the service would answer to a wrong request.

    Args:
        code: The service's error code, such as `ValidationException`.
        message: The service's message.
        status: HTTP status.
        fields: What the service's model of this error has beside its message.
    """

    def __init__(self, code: str, message: str, status: int = 400, fields: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.fields = fields or {}


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
