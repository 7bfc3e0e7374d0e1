"""A run of a step, its result, and the base class of the runners of step types."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any

from medloop.definition.read import Step
from medloop.definition.step_types import type_of
from medloop.local.engine import executions
from medloop.local.engine.expressions import Scope, resolve
from medloop.local.requests import check_request
from medloop.local.state.backend import Backend
from medloop.local.state.home import now
from medloop.local.state.store import Document, Transaction


@dataclass(frozen=True)
class StepRun:
    """One run of a step.

    Args:
        backend: The backend.
        execution: ARN of the execution.
        step: The step.
        scope: The values that its expressions may refer to.
        stop: Set when the execution is stopped.
        note: The first line of its job's log; empty for none.
    """

    backend: Backend
    execution: str
    step: Step
    scope: Scope
    stop: threading.Event
    note: str = ""

    def request(self, **names: str) -> Document:
        """The request of the step's operation: its arguments, resolved, with the names that the service makes up.

        Raises:
            ServiceError: The service refuses it.
            ExpressionError: An expression in it has no value.
        """
        scope = replace(self.scope, execution={**self.scope.execution, **names})
        request: Document = resolve({**self.step.arguments, **names}, scope)
        check_request(type_of(self.step).operation, request)
        return request

    def show(self, **fields: Any) -> None:
        """Change the step's record while it runs."""
        with self.backend.store.write() as write:
            self.refer(write, **fields)

    def refer(self, write: Transaction, **fields: Any) -> None:
        """Change the step's record within the transaction that makes the job or resource that it refers to."""
        executions.change_step(write, self.execution, self.step.name, **fields)

    def begin_again(self) -> None:
        """Record that the step's next attempt begins."""
        with self.backend.store.write() as write:
            executions.begin_attempt(write, self.execution, self.step.name)

    def end(self, write: Transaction, result: StepResult) -> None:
        """End the step's record within the transaction that makes what the step is for.

        An engine that dies next then leaves nothing whose step says that it failed. Other steps just return.
        """
        executions.change_step(write, self.execution, self.step.name, **result.ending())


@dataclass(frozen=True)
class StepResult:
    """The result of a step.

    Args:
        status: Its StepStatus.
        properties: What later steps may refer to.
        metadata: What its record shows of its job.
        reason: Why it failed.
        property_files: S3 URI of its JSON files, by name.
        source: ARN of the earlier execution whose result this is, taken from the step cache; empty for a run.
    """

    status: str
    properties: Document = field(default_factory=dict)
    metadata: Document = field(default_factory=dict)
    reason: str = ""
    property_files: dict[str, str] = field(default_factory=dict)
    source: str = ""

    def ending(self) -> Document:
        """The fields of the step's record."""
        fields: Document = {"StepStatus": self.status, "EndTime": now(), "Metadata": self.metadata}
        fields |= {"_properties": self.properties, "_property_files": self.property_files}
        fields |= {"FailureReason": self.reason} if self.reason else {}
        return fields | ({"CacheHitResult": {"SourcePipelineExecutionArn": self.source}} if self.source else {})


class StepRunner(ABC):
    """Runs the steps of one type; the row of that type in `medloop.definition.step_types` names its subclass."""

    @abstractmethod
    def run(self, run: StepRun) -> StepResult:
        """Run a step to its end. Any error fails the step; a ServiceError says that its request is refused."""
