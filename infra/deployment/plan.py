"""Plan the actions after a model package's change of state.

An event only says that something changed; it may come twice, late, or after a newer one. So the answer is made of what
the registry and the endpoint say now: the newest Approved version shall be served. The requests are those of
`medloop endpoints deploy`, their names made of the version and of their content.

Standard library and boto3 only: the function's runtime has no other package.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from medloop.champion import approved_versions
from medloop.cloud.hosting import VARIANT, Hosting, named_requests, version_of_config
from medloop.documents.file_names import REPORT_FILE
from medloop.documents.metadata import decode
from medloop.s3_uri import split_s3_uri

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient


IN_PROGRESS = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
MARK = "medloop:refused-by-alarm"
"""Tag of an endpoint configuration that was rolled back: the decision that it was deployed for.

A repeated event doesn't send images to it again; a new approval does.
"""
SCORE, SCORE_CHANGE, DIMENSION = "Score", "ScoreChange", "ModelPackageGroup"
"""Metrics of versions that wait for a decision, and their dimension."""
BACK = "`medloop endpoints deploy GROUP/N --target aws` an Approved version, or `medloop endpoints delete`"
"""What a person may do about a version that is served and shouldn't be."""
MAX_SUBJECT = 100
"""SNS's limit of a mail's subject."""


@dataclass(frozen=True)
class Place:
    """Where and how approved versions are served.

    Args:
        hosting: The machines.
        role: ARN of the role that containers run with.
        bucket: The artefact bucket.
        endpoints: The endpoints that may be changed: those with alarms.
        deployment: UpdateEndpoint's DeploymentConfig by endpoint.
        scaling: Autoscaling: `minimum`, `maximum` and `invocations` a minute and instance.
        tags: Of endpoints and configurations.
    """

    hosting: Hosting
    role: str
    bucket: str
    endpoints: list[str]
    deployment: dict[str, dict[str, Any]]
    scaling: dict[str, int]
    tags: list[dict[str, str]]

    @classmethod
    def read(cls, text: str) -> Place:
        """Read the place from the function's environment."""
        document = json.loads(text)
        return cls(**{**document, "hosting": Hosting(**document["hosting"])})


def plan(arn: str, place: Place, sagemaker: SageMakerClient) -> dict[str, Any]:
    """Plan the action after a change of this version's state.

    Args:
        arn: The version's ARN.
        place: Where versions are served.
        sagemaker: SageMaker client.

    Returns:
        `action`: deploy, scale (what is served already), wait (for another deployment), remove (an endpoint that
        failed), approve (a person is to decide), tell (a person is to know) or nothing; `reason`, `config`; `subject`
        and `message` of a notification; with deploy and scale the requests; with approve what is `measured`.
    """
    package = sagemaker.describe_model_package(ModelPackageName=arn)
    status, made = package["ModelApprovalStatus"], package.get("ModelPackageStatus", "Completed")
    if status == "PendingManualApproval":
        # It is announced in each state that it goes through; the last one counts.
        return _ask(package, sagemaker) if made == "Completed" else answered("nothing", f"{name_of(package)} is {made}")
    if status != "Approved":
        return _withdrawn(package, place, sagemaker)
    newest = approved_versions(sagemaker, package["ModelPackageGroupName"])[-1]
    if newest != package["ModelPackageArn"]:
        package = sagemaker.describe_model_package(ModelPackageName=newest)
    return converge(package, place, sagemaker)


def _withdrawn(package: Mapping[str, Any], place: Place, sagemaker: SageMakerClient) -> dict[str, Any]:
    """A version that isn't Approved is never deployed; where it is served, a person takes it away."""
    model, name = name_of(package), endpoint_of(package)
    found = describe_endpoint(sagemaker, name) if name in place.endpoints else None
    served = found and version_of_config(found["EndpointConfigName"], package["ModelPackageGroupName"])
    if served != package["ModelPackageVersion"]:
        return answered("nothing", f"{model} is {package['ModelApprovalStatus']}")
    return tell(f"{model} is {package['ModelApprovalStatus']} and served", f"endpoint {name} serves {model}; {BACK}")


def converge(package: Mapping[str, Any], place: Place, sagemaker: SageMakerClient) -> dict[str, Any]:
    """Plan the action that makes the endpoint serve the newest Approved version."""
    model, name = name_of(package), endpoint_of(package)
    undone = f"{model} is approved and not deployed"
    if name not in place.endpoints:
        return tell(undone, f"endpoint {name} is none of this stack's ({', '.join(place.endpoints)}); nothing done")
    requests = _requests(package, place, name)
    config = str(requests["create_config"]["EndpointConfigName"])
    found = describe_endpoint(sagemaker, name)
    if found is not None and found["EndpointStatus"] in IN_PROGRESS:
        return answered("wait", f"endpoint {name} is {found['EndpointStatus']}")
    if found is not None and (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", config):
        # Once more: scaling may have failed after the switch.
        return {**answered("scale", f"endpoint {name} serves {model}", config), **requests}
    if _refused(sagemaker, requests["mark"]) == _decision(package):
        return answered("nothing", f"{model} was deployed for this decision, and rolled back", config)
    if found is not None and found["EndpointStatus"] == "Failed":
        return {**answered("remove", f"endpoint {name} is Failed", config), "endpoint": name}
    answer = {**answered("deploy", f"{model} to endpoint {name}", config), **requests, "exists": found is not None}
    if found is None:
        return {**answer, "other_machine": False}
    if doubt := _doubt(found, package):
        return tell(undone, doubt)
    return _compared(answer, found["EndpointConfigName"], place, sagemaker) or tell(
        undone,
        f"endpoint {name} is asynchronous or serverless; this stack deploys real-time endpoints; by hand: "
        f"medloop endpoints deploy {model} --target aws",
    )


def _compared(answer: dict[str, Any], config: str, place: Place, sagemaker: SageMakerClient) -> dict[str, Any] | None:
    """The answer with `other_machine`: whether the kind of machine changes; None of an endpoint of another kind."""
    served = sagemaker.describe_endpoint_config(EndpointConfigName=config)
    machines = {variant.get("InstanceType") for variant in served["ProductionVariants"]}
    if served.get("AsyncInferenceConfig") or machines == {None}:
        return None
    return {**answer, "other_machine": machines != {place.hosting.instance_type}}


def endpoint_of(package: Mapping[str, Any]) -> str:
    """The endpoint that serves a version: the one that its execution named."""
    return str(package.get("CustomerMetadataProperties", {}).get("endpoint") or package["ModelPackageGroupName"])


def _doubt(found: Mapping[str, Any], package: Mapping[str, Any]) -> str | None:
    """Why an endpoint isn't changed without a person."""
    name, group = found["EndpointName"], package["ModelPackageGroupName"]
    if found["EndpointStatus"] != "InService":
        return f"endpoint {name} is {found['EndpointStatus']}; look at it, then deploy by hand"
    served = version_of_config(found["EndpointConfigName"], group)
    if served is None:
        return f"endpoint {name} was made by someone else ({found['EndpointConfigName']}); nothing was done"
    if served > package["ModelPackageVersion"]:
        back = f"medloop endpoints deploy {name_of(package)} --target aws"
        return f"endpoint {name} serves the newer {group}/{served}; going back is by hand: {back}"
    return None


def _requests(package: Mapping[str, Any], place: Place, name: str) -> dict[str, Any]:
    group, version, arn = package["ModelPackageGroupName"], package["ModelPackageVersion"], package["ModelPackageArn"]
    folder = f"s3://{place.bucket}/endpoints/{name}"
    model, config = named_requests(place.hosting, group, version, arn, place.role, folder)
    endpoint = {"EndpointName": name, "EndpointConfigName": config["EndpointConfigName"]}
    config_arn = f"{arn.partition(':model-package/')[0]}:endpoint-config/{config['EndpointConfigName']}"
    return {
        "endpoint": name,
        "model": name_of(package),
        "create_model": {**model, "Tags": place.tags},
        "create_config": {**config, "Tags": place.tags},
        "create_endpoint": {**endpoint, "Tags": place.tags},
        # The number of instances that autoscaling has arrived at outlasts the change.
        "update_endpoint": {
            **endpoint,
            "RetainAllVariantProperties": True,
            "DeploymentConfig": place.deployment[name],
        },
        "mark": {"ResourceArn": config_arn, "Tags": [{"Key": MARK, "Value": _decision(package)}]},
        **_scaling(place, name),
    }


def _scaling(place: Place, name: str) -> dict[str, Any]:
    """RegisterScalableTarget's and PutScalingPolicy's requests."""
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{name}/variant/{VARIANT}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    metric = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    policy = {"TargetValue": float(place.scaling["invocations"]), "PredefinedMetricSpecification": metric}
    return {
        "scalable_target": {
            **target,
            "MinCapacity": place.scaling["minimum"],
            "MaxCapacity": place.scaling["maximum"],
        },
        "scaling_policy": {
            **target,
            "PolicyName": f"{name}-invocations",
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": policy,
        },
    }


def _decision(package: Mapping[str, Any]) -> str:
    """Name of the current decision.

    `medloop models approve` records one; the console doesn't, and leaves an earlier one's name: so the time, too.
    """
    changed = package.get("LastModifiedTime") or package["CreationTime"]
    named = package.get("CustomerMetadataProperties", {}).get("decision", "")
    return f"{named} {changed.strftime('%Y-%m-%dT%H:%M:%S')}".strip()


def _refused(sagemaker: SageMakerClient, mark: Mapping[str, Any]) -> str | None:
    """The decision for which the configuration was deployed and rolled back; None without a configuration."""
    try:
        pages = sagemaker.get_paginator("list_tags").paginate(ResourceArn=mark["ResourceArn"])
        tags = [tag for page in pages for tag in page["Tags"]]
    except Exception as error:
        if _error(error)[0] not in ("ValidationException", "ResourceNotFound", "ResourceNotFoundException"):
            raise
        return None
    values = [tag["Value"] for tag in tags if tag["Key"] == MARK]
    return values[-1] if values else None


def describe_endpoint(sagemaker: SageMakerClient, name: str) -> dict[str, Any] | None:
    """DescribeEndpoint's answer; None where there is none of this name."""
    try:
        return dict(sagemaker.describe_endpoint(EndpointName=name))
    except Exception as error:
        if "could not find" not in _error(error)[1]:
            raise
        return None


def _error(error: Exception) -> tuple[str, str]:
    """A client error's code, and its message in small letters; botocore isn't imported for it."""
    response: Any = getattr(error, "response", None)
    said = response["Error"] if isinstance(response, dict) else {}
    return str(said.get("Code", "")), str(said.get("Message", "")).lower()


def _ask(package: Mapping[str, Any], sagemaker: SageMakerClient) -> dict[str, Any]:
    """The notification of approvers, with the links to the evidence; and how its score compares."""
    model, metadata = name_of(package), package.get("CustomerMetadataProperties", {})
    evidence = decode(str(metadata.get("evaluation", ""))).rstrip("/")
    lines = [
        f"{model} waits for your decision.",
        f"Score: {metadata.get('score', 'not recorded')}. Evidence: {metadata.get('evidence', 'not recorded')}.",
        f"Report: {_console(evidence, package['ModelPackageArn'])}" if evidence else "Report: not recorded.",
        f"Or: medloop models show {model} --target aws; medloop models open {model} --target aws",
        f"Then: medloop models approve|reject {model} --reason TEXT --target aws",
    ]
    answer = answered("approve", f"{model} waits for a decision")
    mail = {"subject": f"medloop: {model} waits for approval"[:MAX_SUBJECT], "message": "\n".join(lines)}
    return {**answer, **mail, "measured": _measured(package, sagemaker)}


def _measured(package: Mapping[str, Any], sagemaker: SageMakerClient) -> list[dict[str, Any]]:
    """PutMetricData's data: the version's score, and its change against the newest Approved version's own.

    The two were scored on the data of their days: models made in the same way score lower when the data have drifted.
    """
    group, scored = package["ModelPackageGroupName"], _score(package)
    if scored is None:
        return []
    name, score = scored
    found = {SCORE: score}
    if approved := approved_versions(sagemaker, group):
        before = _score(sagemaker.describe_model_package(ModelPackageName=approved[-1]))
        # Against a score of another kind nothing can be said.
        found |= {SCORE_CHANGE: round(score - before[1], 6)} if before and before[0] == name else {}
    dimensions = [{"Name": DIMENSION, "Value": group}]
    return [{"MetricName": name, "Dimensions": dimensions, "Value": value} for name, value in found.items()]


def _score(package: Mapping[str, Any]) -> tuple[str, float] | None:
    """The score in a version's metadata (`mean_foreground_dice 0.9123`): name and value; None where there is none."""
    name, _, value = decode(str(package.get("CustomerMetadataProperties", {}).get("score", ""))).rpartition(" ")
    try:
        found = float(value)
    except ValueError:
        return None
    return (name, found) if math.isfinite(found) else None


def _console(folder: str, arn: str) -> str:
    """The page of the console that shows the report; opening it requires the approver's permissions."""
    bucket, key = split_s3_uri(folder)
    region = arn.split(":")[3]
    query = f"region={region}&prefix={quote(f'{key}/{REPORT_FILE}')}"
    return f"https://{region}.console.aws.amazon.com/s3/object/{bucket}?{query}"


def tell(what: str, reason: str) -> dict[str, Any]:
    """The result that notifies operations."""
    return {**answered("tell", reason), "subject": f"medloop: {what}"[:MAX_SUBJECT], "message": f"{what}: {reason}"}


def answered(action: str, reason: str, config: str = "") -> dict[str, Any]:
    """Response of the function, from which the state machine decides."""
    return {"action": action, "reason": reason, "config": config}


def name_of(package: Mapping[str, Any]) -> str:
    """A version as people write it: group/number."""
    return f"{package['ModelPackageGroupName']}/{package['ModelPackageVersion']}"
