"""What a running step works with, and how it ends."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from medloop.definition.read import Step
from medloop.local import executions
from medloop.local.backend import Backend
from medloop.local.errors import ServiceError
from medloop.local.expressions import Scope
from medloop.local.store import Document


@dataclass(frozen=True)
class StepRun:
    """What a running step works with.

    Args:
        backend: The backend.
        execution: ARN of the execution.
        step: The step.
        scope: What its expressions may refer to.
        stop: Set when the execution is stopped.
    """

    backend: Backend
    execution: str
    step: Step
    scope: Scope
    stop: threading.Event

    def show(self, **fields: Any) -> None:
        """Change the step's record while it runs."""
        with self.backend.store.write() as write:
            executions.change_step(write, self.execution, self.step.name, **fields)


@dataclass(frozen=True)
class StepResult:
    """How a step ended: its StepStatus, what later steps may refer to, and what its record shows."""

    status: str
    properties: Document = field(default_factory=dict)
    metadata: Document = field(default_factory=dict)
    reason: str = ""
    property_files: dict[str, str] = field(default_factory=dict)


def refused(operation: str, error: ServiceError) -> str:
    """The reason of a step whose request the service refused."""
    return f"ClientError: Failed to invoke sagemaker:{operation}. Error Details: {error.message}"
