"""Check daily that endpoints serve the approved versions, as an event that the service never sent is no dead letter.

It only notifies. A change by hand isn't reverted.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from infra.deployment.plan import (
    IN_PROGRESS,
    Serving,
    converge,
    describe_endpoint,
    endpoint_of,
    name_of,
    notify,
    result,
)
from medloop.champion import approved_versions
from medloop.cloud.hosting import version_of_config

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient


CHECK = "check"
"""Field of the clock's input: the group to be looked at."""
SETTLED, FORGOTTEN = timedelta(hours=4), timedelta(days=7)
"""Before the first a decision's own event may be on its way or at work; after the second what is, is wanted."""


def check(group: str, serving: Serving, sagemaker: SageMakerClient) -> dict[str, Any]:
    """Find the problems of a group's versions and endpoints.

    Reported are, for any of the stack's endpoints: a version that is served and not Approved, an endpoint that serves a
    version and isn't in service. And of the newest Approved version, in the week after its approval, that it isn't
    deployed; but not where an alarm rolled it back, which was reported then.

    Args:
        group: The model package group.
        serving: The endpoints, and how versions are served.
        sagemaker: SageMaker client.

    Returns:
        `action` tell or nothing, with `reason`, `subject` and `message`.
    """
    approved = approved_versions(sagemaker, group)
    numbers = {int(arn.rpartition("/")[2]) for arn in approved}
    for name in serving.endpoints:
        if problem := find_problem(name, group, numbers, serving, sagemaker):
            return problem
    if not approved:
        return result("nothing", f"{group}: no version is Approved, and none is served")
    return _undeployed(sagemaker.describe_model_package(ModelPackageName=approved[-1]), serving, sagemaker)


def find_problem(
    name: str, group: str, approved: set[int], serving: Serving, sagemaker: SageMakerClient
) -> dict[str, Any] | None:
    """Problem of an endpoint that serves one of the group's versions; None for any other endpoint."""
    endpoint = describe_endpoint(sagemaker, name)
    served = endpoint and version_of_config(endpoint["EndpointConfigName"], group)
    if not endpoint or not served or endpoint["EndpointStatus"] in IN_PROGRESS:
        return None
    model, status = f"{group}/{served}", endpoint["EndpointStatus"]
    if served not in approved:
        return notify(f"{model} is not Approved and served", f"endpoint {name} serves {model}; {serving.back}")
    if status != "InService":
        fix = f"{model} should be served; check it, then {serving.again(model)}"
        return notify(f"endpoint {name} is {status}", fix)
    return None


def _undeployed(newest: Mapping[str, Any], serving: Serving, sagemaker: SageMakerClient) -> dict[str, Any]:
    """Problem of a version that was approved in the last week and isn't deployed; otherwise `nothing`."""
    model, name = name_of(newest), endpoint_of(newest)
    changed = newest.get("LastModifiedTime") or newest["CreationTime"]
    if name not in serving.endpoints or not SETTLED < datetime.now(UTC) - changed < FORGOTTEN:
        return result("nothing", f"{model} of endpoint {name} isn't looked at: another's, too new or too old")
    endpoint = describe_endpoint(sagemaker, name)
    if endpoint and version_of_config(endpoint["EndpointConfigName"], newest["ModelPackageGroupName"]) == int(
        newest["ModelPackageVersion"]
    ):
        return result("nothing", f"endpoint {name} serves {model}")
    planned = converge(newest, serving, sagemaker)
    if planned["action"] in ("deploy", "remove"):
        fix = f"approve it again: medloop models approve {model} --reason TEXT --yes --target aws; or reject it"
        return notify(f"{model} is approved and not deployed", f"no event reported it, or its deployment ended; {fix}")
    return planned if planned["action"] == "tell" else result("nothing", planned["reason"])
