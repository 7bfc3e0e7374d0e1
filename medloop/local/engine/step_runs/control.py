"""Condition, RegisterModel and Fail steps: they take no time."""

from __future__ import annotations

from medloop.definition.read import OUTCOMES
from medloop.local.engine.expressions import holds, resolve
from medloop.local.engine.step_runs.base import StepResult, StepRun, refused
from medloop.local.errors import ServiceError
from medloop.local.requests import check_request
from medloop.local.state import packages
from medloop.local.state.store import Table


def condition(run: StepRun) -> StepResult:
    """A Condition step."""
    conditions = run.step.arguments.get("Conditions") or []
    outcome = OUTCOMES["yes" if all(holds(condition, run.scope) for condition in conditions) else "no"]
    return StepResult("Succeeded", {"Outcome": outcome}, {"Condition": {"Outcome": outcome}})


def register(run: StepRun) -> StepResult:
    """A RegisterModel step."""
    request = resolve(run.step.arguments, run.scope)
    try:
        check_request("CreateModelPackage", request)
        with run.backend.store.write() as write:
            group = packages.group_name(request.get("ModelPackageGroupName", ""))
            if group and write.get(Table.GROUPS, group) is None:  # a pipeline makes its group by itself
                packages.create_group(write, {"ModelPackageGroupName": group})
            package = packages.create_package(write, request)
            metadata = {"RegisterModel": {"Arn": package["ModelPackageArn"]}}
            result = StepResult("Succeeded", package, metadata)
            run.end(write, result)
            return result
    except ServiceError as error:
        return StepResult("Failed", reason=refused("CreateModelPackage", error))


def fail(run: StepRun) -> StepResult:
    """A Fail step."""
    message = str(resolve(run.step.arguments.get("ErrorMessage", ""), run.scope))
    return StepResult("Failed", {"ErrorMessage": message}, {"Fail": {"ErrorMessage": message}}, message)
