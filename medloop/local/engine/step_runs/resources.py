"""Runners of steps that create one resource: RegisterModel, Model and EndpointConfig."""

from __future__ import annotations

from typing import ClassVar

from medloop.definition.step_types import type_of
from medloop.local.engine.step_runs.base import StepResult, StepRun, StepRunner
from medloop.local.engine.step_runs.jobs import job_name
from medloop.local.hosting.endpoints import create_config
from medloop.local.state import model_packages
from medloop.local.state.backend import Backend
from medloop.local.state.models import create_model
from medloop.local.state.store import Document, Table, Transaction


class ResourceRunner(StepRunner):
    """Creates a resource by the operation of the step's type.

    `make` records the resource and returns its description, the step's properties; it raises ServiceError when the
    service refuses the request.
    """

    make: ClassVar[staticmethod[[Transaction, Backend, Document], Document]]

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


def _register(write: Transaction, _: Backend, request: Document) -> Document:
    """Register a model package, and create its group if there is none."""
    group = model_packages.group_name(request.get("ModelPackageGroupName", ""))
    if group and write.get(Table.GROUPS, group) is None:
        model_packages.create_group(write, {"ModelPackageGroupName": group})
    return model_packages.create_package(write, request)


class RegisterModel(ResourceRunner):
    """Registers a model package."""

    make = staticmethod(_register)


class Model(ResourceRunner):
    """Creates a model under a new name."""

    make = staticmethod(create_model)


class EndpointConfig(ResourceRunner):
    """Creates an endpoint configuration."""

    make = staticmethod(create_config)
