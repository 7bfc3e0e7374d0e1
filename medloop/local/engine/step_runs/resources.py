"""Runners of steps that create one resource: RegisterModel, Model and EndpointConfig."""

from __future__ import annotations

from abc import abstractmethod

from medloop.definition.step_types import type_of
from medloop.local.engine.step_runs.base import StepResult, StepRun, StepRunner
from medloop.local.engine.step_runs.jobs import job_name
from medloop.local.hosting.endpoints import create_config
from medloop.local.state import model_packages
from medloop.local.state.backend import Backend
from medloop.local.state.models import create_model
from medloop.local.state.store import Document, Table, Transaction


class ResourceRunner(StepRunner):
    """Creates a resource by the operation of the step's type."""

    def run(self, run: StepRun) -> StepResult:
        """See StepRunner. The resource and the step's end are recorded in one transaction."""
        row = type_of(run.step)
        made_up = job_name("pipelines", run.execution.rpartition("/")[2], run.step.name)
        request = run.request(**({row.filled_in: made_up} if row.filled_in else {}))
        with run.backend.store.write() as write:
            made = self.make(write, run.backend, request)
            arn = made[f"{row.operation.removeprefix('Create')}Arn"]
            result = StepResult("Succeeded", made, {row.metadata_member: {row.arn_member: arn}})
            run.end(write, result)
        return result

    @abstractmethod
    def make(self, write: Transaction, backend: Backend, request: Document) -> Document:
        """Record the resource; returns its description, the step's properties.

        Raises:
            ServiceError: The service refuses the request.
        """


class RegisterModel(ResourceRunner):
    """Registers a model package, and creates its group if there is none."""

    def make(self, write: Transaction, backend: Backend, request: Document) -> Document:
        """See ResourceRunner."""
        group = model_packages.group_name(request.get("ModelPackageGroupName", ""))
        if group and write.get(Table.GROUPS, group) is None:
            model_packages.create_group(write, {"ModelPackageGroupName": group})
        return model_packages.create_package(write, request)


class Model(ResourceRunner):
    """Creates a model under a new name."""

    def make(self, write: Transaction, backend: Backend, request: Document) -> Document:
        """See ResourceRunner."""
        return create_model(write, backend, request)


class EndpointConfig(ResourceRunner):
    """Creates an endpoint configuration."""

    def make(self, write: Transaction, backend: Backend, request: Document) -> Document:
        """See ResourceRunner."""
        return create_config(write, request)
