"""Plan the deployment of a version of another account: the one that was promoted, if it is what was approved there.

A promotion is an event on production's bus, sent by `medloop endpoints promote`. The registry's own events say that a
version was rejected; they deploy nothing, also if the version is Approved again: it was not promoted again.

Standard library and boto3 only: the function's runtime has no other package.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from infra.deployment.check import find_problem
from infra.deployment.plan import (
    Serving,
    converge,
    describe_endpoint,
    describe_version,
    endpoint_of,
    name_of,
    notify,
    result,
)
from medloop.cloud.hosting import version_of_config
from medloop.cloud.promotion import SOURCE, refusal_of

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient


def respond_to(event: Mapping[str, Any], serving: Serving, sagemaker: SageMakerClient) -> dict[str, Any]:
    """Plan the action that follows from an event of production's bus.

    Args:
        event: A promotion, or the registry's event about a rejected version.
        serving: The endpoints, and how versions are served.
        sagemaker: SageMaker client.

    Returns:
        As `plan`: deploy, scale, wait, remove, tell or nothing.
    """
    arn = str(event["detail"]["ModelPackageArn"])
    package, refusal = _read(arn, serving, sagemaker)
    if package is None:
        return notify("a version can't be served here", refusal)
    if event["source"] == SOURCE:
        decided = {**(package.get("CustomerMetadataProperties") or {}), "decision": f"promotion {event['id']}"}
        back = event["detail"].get("Back") is True
        return promote({**package, "CustomerMetadataProperties": decided}, serving, sagemaker, back=back)
    return _withdraw(package, serving, sagemaker)


def promote(package: Mapping[str, Any], serving: Serving, sagemaker: SageMakerClient, *, back: bool) -> dict[str, Any]:
    """Plan the deployment of this version, though a newer one may be Approved: that one wasn't promoted.

    Its decision is the promotion: after a deployment that was rolled back, a repeated event tries no more, and another
    promotion does.
    """
    if refusal := refusal_of(package):
        return notify(f"{name_of(package)} was promoted and isn't deployed", refusal)
    return converge(package, serving, sagemaker, back=back)


def check_promoted(group: str, serving: Serving, sagemaker: SageMakerClient) -> dict[str, Any]:
    """Find an endpoint that serves a version that isn't Approved, or that isn't in service.

    Args:
        group: The model package group.
        serving: The endpoints, and how versions are served.
        sagemaker: SageMaker client.

    Returns:
        `action` tell or nothing, with `reason`, `subject` and `message`.
    """
    for name in serving.endpoints:
        endpoint = describe_endpoint(sagemaker, name)
        served = endpoint and version_of_config(endpoint["EndpointConfigName"], group)
        if served:
            package, _ = _read(f"{serving.registry}/{group}/{served}", serving, sagemaker)
            is_approved = package is not None and package["ModelApprovalStatus"] == "Approved"
            if problem := find_problem(name, group, {served} if is_approved else set(), serving, sagemaker):
                return problem
    return result("nothing", f"{group}: what is served is Approved")


def _withdraw(package: Mapping[str, Any], serving: Serving, sagemaker: SageMakerClient) -> dict[str, Any]:
    """Tell operations of a version that is served and no longer Approved; a person takes it away."""
    model, name, status = name_of(package), endpoint_of(package), package["ModelApprovalStatus"]
    endpoint = describe_endpoint(sagemaker, name) if name in serving.endpoints else None
    served = endpoint and version_of_config(endpoint["EndpointConfigName"], package["ModelPackageGroupName"])
    if status == "Approved" or served != package["ModelPackageVersion"]:
        return result("nothing", f"{model} is {status}")
    return notify(f"{model} is {status} and served", f"endpoint {name} serves {model}; {serving.back}")


def _read(arn: str, serving: Serving, sagemaker: SageMakerClient) -> tuple[dict[str, Any] | None, str]:
    """A version of the registry's groups, or the reason for which it is none.

    Group and number are those of the ARN, by which rights are granted and the model is made.
    """
    match = re.fullmatch(rf"{re.escape(serving.registry)}/([^/]+)/([1-9][0-9]*)", arn)
    if not match or match[1] not in serving.endpoints:
        groups = ", ".join(serving.endpoints)
        return None, f"{arn} is no version of {serving.registry}'s groups {groups}; nothing was done"
    package = describe_version(arn, sagemaker)
    if package is None:
        return None, f"{arn} isn't there; nothing was done"
    identity = {"ModelPackageArn": arn, "ModelPackageGroupName": match[1], "ModelPackageVersion": int(match[2])}
    return {**package, **identity}, ""
