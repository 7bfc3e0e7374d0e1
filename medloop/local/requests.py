"""Checks requests that the engine makes against the service's own model, as botocore does for a client."""

from __future__ import annotations

from typing import Any

from medloop.definition.requests import operation_problems, service_model
from medloop.local.errors import invalid


def prepare() -> None:
    """Import and load what a registration is checked with: a fifth of a second, which needn't be waited for."""
    from medloop.documents import package_card  # noqa: F401 (imports pydantic)

    service_model()


def check_request(operation: str, request: dict[str, Any]) -> None:
    """Check types, required and unknown fields of a request.

    Raises:
        ServiceError: ValidationException that names the fields.
    """
    from botocore.validate import ParamValidator  # an execution whose steps are all remembered requests nothing

    shape = service_model().operation_model(operation).input_shape
    assert shape is not None  # noqa: S101 (every Create operation has a request)
    report = ParamValidator().validate(request, shape)
    if report.has_errors():
        raise invalid(report.generate_report())


def check_limits(operation: str, request: dict[str, Any]) -> None:
    """Check lengths, counts, patterns and values of a request, which botocore leaves to the service.

    Raises:
        ServiceError: ValidationException that names the first field, in the service's manner.
    """
    problems = list(operation_problems(operation, request))
    content = (request.get("ModelCard") or {}).get("ModelCardContent")
    if not problems and content is not None:
        from medloop.documents.package_card import card_problem  # imports pydantic

        if problem := card_problem(content):
            problems.append(f"ModelCard.ModelCardContent: {problem}")
    if problems:
        count = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} detected"
        raise invalid(f"{count}: {problems[0]}")
