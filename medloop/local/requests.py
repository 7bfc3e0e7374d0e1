"""Checks requests that the engine makes against the service's own model, as botocore does for a client."""

from __future__ import annotations

from botocore.validate import ParamValidator

from medloop.definition.requests import service_model
from medloop.local.errors import invalid
from medloop.local.store import Document


def check_request(operation: str, request: Document) -> None:
    """Check types, required and unknown fields of a request.

    Raises:
        ServiceError: ValidationException that names the fields.
    """
    shape = service_model().operation_model(operation).input_shape
    assert shape is not None  # noqa: S101 (every Create operation has a request)
    report = ParamValidator().validate(request, shape)
    if report.has_errors():
        raise invalid(report.generate_report())
