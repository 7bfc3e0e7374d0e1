"""Put a registered version on an endpoint: made, updated in place, or found as it should be.

Model and configuration bear names made of their content, so that deploying the same version twice changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from medloop.cloud.hosting import Hosting, has_gpu, named_requests
from medloop.cloud.target import Target
from medloop.commands.options import Services
from medloop.commands.output import duration, print_line
from medloop.commands.registry.evidence_files import check_artefact
from medloop.documents.metadata import PIPELINE, decoded
from medloop.errors import MedloopError, SettingError, UserError

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker.type_defs import DescribeEndpointOutputTypeDef

IN_PROGRESS = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
_POLL_SECONDS = 0.5
_REMIND_SECONDS = 30.0


class DeploymentError(MedloopError):
    """The endpoint doesn't serve the requested version."""


@dataclass(frozen=True)
class Deployment:
    """An endpoint with its model `GROUP/N`, how it came (created, updated or unchanged), and in what time."""

    endpoint: str
    model: str
    action: str
    seconds: float


def deploy_model(
    services: Services,
    target: Target,
    arn: str,
    *,
    name: str | None = None,
    hosting: Hosting | None = None,
    flags: str = "",
) -> Deployment:
    """Serve a registered version, and wait until it is ready; progress goes to stderr.

    The endpoint's name is by default that which the version's execution named, or else its group; the hosting, that of
    the pipeline's settings. `flags` (`options.flags`) are for the commands in errors.

    Raises:
        UserError: The version isn't Approved, its model or image was changed, its model is gone, or the endpoint is in
            the midst of a change.
        DeploymentError: The endpoint came up with an error, or kept its old model.
    """
    sagemaker = target.boto.client("sagemaker")
    package = sagemaker.describe_model_package(ModelPackageName=arn)
    model = require_approved(package, flags)
    if warning := check_artefact(target, package, readable=False):
        print_line(services.err, warning, style="yellow")
    hosting = hosting or default_hosting(package)
    if target.name == "aws":
        _require_suitable(package, model, hosting)
    metadata = package.get("CustomerMetadataProperties", {})
    name = name or str(metadata.get("endpoint") or package["ModelPackageGroupName"])
    config = _ensure_config(target, sagemaker, hosting, package, name)
    began = time.monotonic()
    action = _start(services, sagemaker, name, config)
    if action != "unchanged":
        print_line(services.err, f"endpoint {name}: to be {action} with {model} ({_hosting_text(hosting)})")
        _follow(services, sagemaker, name, config)
    return Deployment(name, model, action, time.monotonic() - began)


def _require_suitable(package: Mapping[str, Any], model: str, hosting: Hosting) -> None:
    """Refuse GPUs that the version doesn't list: its image may be built for the CPU, which is all it would use."""
    listed = package.get("InferenceSpecification", {}).get("SupportedRealtimeInferenceInstanceTypes", [])
    if hosting.kind != "serverless" and has_gpu(hosting.instance_type) and not any(map(has_gpu, listed)):
        shown = ", ".join(listed) or "no instance type"
        raise UserError(
            f"{model} is registered for {shown}, and {hosting.instance_type} has GPUs that its image may not use; "
            "choose a CPU instance type, or build containers/serve on a GPU base and register again (docs/training.md)"
        )


def require_approved(package: Mapping[str, Any], flags: str = "") -> str:
    """`GROUP/N` of a version that may be served.

    Raises:
        UserError: It isn't Approved; the message holds the command that approves it.
    """
    model = f"{package['ModelPackageGroupName']}/{package['ModelPackageVersion']}"
    status = package.get("ModelApprovalStatus")
    if status != "Approved":
        fix = f"medloop models approve {model} --reason TEXT{flags}"
        raise UserError(f"{model} is {status}, and only an Approved version is deployed; `{fix}`")
    return model


def default_hosting(package: Mapping[str, Any], preset: str | None = None, sets: tuple[str, ...] = ()) -> Hosting:
    """Hosting by the settings of the version's pipeline (`deploy`, `network`).

    A version that was registered without its pipeline's name is of the pipeline that its group is named after.

    Raises:
        SettingError: A setting can't be used.
    """
    from medloop.settings import resolve, split_name

    pipeline = decoded(package.get("CustomerMetadataProperties")).get(PIPELINE)
    named = split_name(pipeline or str(package["ModelPackageGroupName"]).removeprefix("medloop-"))
    if named is None:
        if preset or sets:
            source = f"pipeline {pipeline}, which isn't installed" if pipeline else "no pipeline"
            raise SettingError(
                f"group {package['ModelPackageGroupName']} is of {source}; "
                + ("install its package, or " if pipeline else "")
                + "leave --preset and --set out"
            )
        return Hosting()
    settings: Any = resolve(named[0], preset, sets, project=named[1]).settings
    hosting: Hosting = settings.deploy.hosting(settings.network)
    return hosting


def remove_endpoint(services: Services, sagemaker: SageMakerClient, name: str) -> None:
    """Delete an endpoint and wait until it is gone.

    Raises:
        UserError: There is none, or it is in the midst of a change.
    """
    _require_settled(find_endpoint(sagemaker, name))
    sagemaker.delete_endpoint(EndpointName=name)
    _watch(services, sagemaker, name, lambda status: status is None)


def find_endpoint(sagemaker: SageMakerClient, name: str) -> DescribeEndpointOutputTypeDef:
    """An endpoint's description.

    Raises:
        UserError: There is none.
    """
    endpoint = _describe(sagemaker, name)
    if endpoint is None:
        pages = sagemaker.get_paginator("list_endpoints").paginate()
        known = sorted(item["EndpointName"] for page in pages for item in page["Endpoints"])
        raise UserError(f"there is no endpoint {name!r}; there are: {', '.join(known) or 'none'}")
    return endpoint


def _ensure_config(
    target: Target, sagemaker: SageMakerClient, hosting: Hosting, package: Mapping[str, Any], name: str
) -> str:
    """Make model and configuration where they aren't there yet; returns the configuration's name."""
    folder = f"s3://{target.bucket}/endpoints/{name}"
    model, config = named_requests(hosting, package, target.inference_role_arn, folder)
    _create_once(lambda: sagemaker.create_model(**model))
    _create_once(lambda: sagemaker.create_endpoint_config(**config))
    return str(config["EndpointConfigName"])


def _create_once(create: Callable[[], Any]) -> None:
    try:
        create()
    except ClientError as error:
        if "already exist" not in error.response["Error"].get("Message", "").lower():
            raise


def _start(services: Services, sagemaker: SageMakerClient, name: str, config: str) -> str:
    """Ask for what is needed; returns what the endpoint is to be: created, updated or unchanged."""
    endpoint = _describe(sagemaker, name)
    if endpoint is not None and endpoint["EndpointStatus"] == "Failed":
        reason = endpoint.get("FailureReason", "no reason")
        print_line(services.err, f"endpoint {name} had failed ({reason}); it is created again")
        remove_endpoint(services, sagemaker, name)
        endpoint = None
    if endpoint is None:
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        return "created"
    _require_settled(endpoint)
    if endpoint["EndpointConfigName"] == config:
        return "unchanged"
    sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
    return "updated"


def _require_settled(endpoint: DescribeEndpointOutputTypeDef) -> None:
    if (status := endpoint["EndpointStatus"]) in IN_PROGRESS:
        raise UserError(f"endpoint {endpoint['EndpointName']} is {status}; try again when that has ended")


def _follow(services: Services, sagemaker: SageMakerClient, name: str, config: str) -> None:
    _watch(services, sagemaker, name, lambda status: status not in IN_PROGRESS)
    endpoint = _describe(sagemaker, name) or {"EndpointStatus": "gone"}
    if endpoint["EndpointStatus"] == "InService" and endpoint.get("EndpointConfigName") == config:
        return
    reason = endpoint.get("FailureReason", "no reason given")
    note = "; it keeps its old model" if endpoint["EndpointStatus"] == "InService" else ""
    raise DeploymentError(f"endpoint {name} is {endpoint['EndpointStatus']}{note}: {reason}")


def _watch(services: Services, sagemaker: SageMakerClient, name: str, ended: Callable[[str | None], bool]) -> None:
    """Tell every change of state, and every half minute that it still lasts, until `ended` holds."""
    began = reported_at = time.monotonic()
    reported = ""
    while True:
        endpoint = _describe(sagemaker, name)
        status = None if endpoint is None else str(endpoint["EndpointStatus"])
        if (status or "gone") != reported or time.monotonic() - reported_at > _REMIND_SECONDS:
            reported, reported_at = status or "gone", time.monotonic()
            print_line(services.err, f"endpoint {name}: {reported} ({duration(reported_at - began)})")
        if ended(status):
            return
        services.sleep(_POLL_SECONDS)


def _describe(sagemaker: SageMakerClient, name: str) -> DescribeEndpointOutputTypeDef | None:
    try:
        return sagemaker.describe_endpoint(EndpointName=name)
    except ClientError as error:
        if "could not find" not in error.response["Error"].get("Message", "").lower():
            raise
        return None


def _hosting_text(hosting: Hosting) -> str:
    if hosting.kind == "serverless":
        return f"serverless, {hosting.memory_mb} MB"
    return f"{hosting.kind}, {hosting.instance_count} x {hosting.instance_type}"
