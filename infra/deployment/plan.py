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
from medloop.documents.artefact import changed_image
from medloop.documents.file_names import REPORT_FILE
from medloop.documents.metadata import decode, decoded
from medloop.s3_uri import split_s3_uri

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker.type_defs import DescribeModelPackageOutputTypeDef


IN_PROGRESS = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
REFUSED_TAG = "medloop:refused-by-alarm"
"""Tag of an endpoint configuration that was rolled back: the decision that it was deployed for.

A repeated event doesn't send images to it again; a new approval does.
"""
SCORE, SCORE_CHANGE, DIMENSION = "Score", "ScoreChange", "ModelPackageGroup"
"""Metrics of versions that wait for a decision, and their dimension."""
BACK = "`medloop endpoints deploy GROUP/N --target aws` an Approved version, or `medloop endpoints delete`"
PROMOTE_BACK = "promote an Approved version: `medloop endpoints promote GROUP/N --back --target aws`"
"""What a person may do about a version that is served and shouldn't be: in its account, and in another."""
MAX_SUBJECT = 100
"""SNS's limit of a mail's subject."""


@dataclass(frozen=True)
class Serving:
    """The endpoints that serve approved versions, and their configuration.

    Args:
        hosting: The machines.
        role: ARN of the role that containers run with.
        bucket: The artefact bucket.
        endpoints: The endpoints that may be changed: those with alarms.
        deployment: UpdateEndpoint's DeploymentConfig by endpoint.
        scaling: Autoscaling: `minimum`, `maximum` and `invocations` a minute and instance.
        tags: Of endpoints and configurations.
        registry: `arn:...:model-package` of another account's versions, of which only promoted ones are served; empty:
            the newest Approved version of this account is.
    """

    hosting: Hosting
    role: str
    bucket: str
    endpoints: list[str]
    deployment: dict[str, dict[str, Any]]
    scaling: dict[str, int]
    tags: list[dict[str, str]]
    registry: str = ""

    @property
    def back(self) -> str:
        """Advice about a version that is served and shouldn't be."""
        return PROMOTE_BACK if self.registry else BACK

    def again(self, model: str) -> str:
        """Advice that lets a version be deployed once more."""
        command = f"promote {model} again: medloop endpoints promote {model} --target aws"
        return command if self.registry else f"approve {model} again"

    @classmethod
    def read(cls, text: str) -> Serving:
        """Read it from the function's environment."""
        document = json.loads(text)
        return cls(**{**document, "hosting": Hosting(**document["hosting"])})


def plan(arn: str, serving: Serving, sagemaker: SageMakerClient) -> dict[str, Any]:
    """Plan the action after a change of this version's state.

    Args:
        arn: The version's ARN.
        serving: The endpoints, and how versions are served.
        sagemaker: SageMaker client.

    Returns:
        `action`: deploy, scale (what is served already), wait (for another deployment), remove (an endpoint that
        failed), approve (a person is to decide), tell (a person is to know) or nothing; `reason`, `config`; `subject`
        and `message` of a notification; with deploy and scale the requests; with approve what is `measured`.
    """
    package = describe_version(arn, sagemaker)
    if package is None:
        return result("nothing", f"{arn.rpartition('model-package/')[2]} was deleted")
    status, made = package["ModelApprovalStatus"], package.get("ModelPackageStatus", "Completed")
    if status == "PendingManualApproval":
        # It is announced in each state that it goes through; the last one counts.
        return _mail(package, sagemaker) if made == "Completed" else result("nothing", f"{name_of(package)} is {made}")
    if status != "Approved":
        return _withdrawn(package, serving, sagemaker)
    newest = approved_versions(sagemaker, package["ModelPackageGroupName"])[-1]
    if newest != package["ModelPackageArn"]:
        package = sagemaker.describe_model_package(ModelPackageName=newest)
    return converge(package, serving, sagemaker)


def _withdrawn(package: Mapping[str, Any], serving: Serving, sagemaker: SageMakerClient) -> dict[str, Any]:
    """A version that isn't Approved is never deployed; where it is served, a person takes it away."""
    model, name = name_of(package), endpoint_of(package)
    endpoint = describe_endpoint(sagemaker, name) if name in serving.endpoints else None
    served = endpoint and version_of_config(endpoint["EndpointConfigName"], package["ModelPackageGroupName"])
    if served != package["ModelPackageVersion"]:
        return result("nothing", f"{model} is {package['ModelApprovalStatus']}")
    return notify(
        f"{model} is {package['ModelApprovalStatus']} and served", f"endpoint {name} serves {model}; {serving.back}"
    )


def converge(
    package: Mapping[str, Any], serving: Serving, sagemaker: SageMakerClient, *, back: bool = False
) -> dict[str, Any]:
    """Plan the action that makes the endpoint serve this version, the newest Approved one or the promoted one.

    Args:
        package: DescribeModelPackage's response.
        serving: The endpoints, and how versions are served.
        sagemaker: SageMaker client.
        back: Also in the place of a newer version, as a person decided.
    """
    model, name = name_of(package), endpoint_of(package)
    undone = f"{model} is approved and not deployed"
    if name not in serving.endpoints:
        return notify(undone, f"endpoint {name} is none of this stack's ({', '.join(serving.endpoints)}); nothing done")
    if name != (group := package["ModelPackageGroupName"]) and group in serving.endpoints:
        return notify(undone, f"endpoint {name} serves another group than {group}; nothing was done")
    if changed := changed_image(package):
        return notify(undone, f"{changed}; nothing was done")
    requests = _requests(package, serving, name)
    config = str(requests["create_config"]["EndpointConfigName"])
    endpoint = describe_endpoint(sagemaker, name)
    if endpoint is not None and endpoint["EndpointStatus"] in IN_PROGRESS:
        return result("wait", f"endpoint {name} is {endpoint['EndpointStatus']}")
    if endpoint is not None and (endpoint["EndpointStatus"], endpoint["EndpointConfigName"]) == ("InService", config):
        # Once more: scaling may have failed after the switch.
        return {**result("scale", f"endpoint {name} serves {model}", config), **requests}
    if _refused(sagemaker, requests["mark"]) == _decision(package):
        return result("nothing", f"{model} was deployed for this decision, and rolled back", config)
    if endpoint is not None and endpoint["EndpointStatus"] == "Failed":
        return {**result("remove", f"endpoint {name} is Failed", config), "endpoint": name}
    action = {**result("deploy", f"{model} to endpoint {name}", config), **requests, "exists": endpoint is not None}
    if endpoint is None:
        return {**action, "other_machine": False}
    if refusal := _refusal(endpoint, package, serving, back=back):
        return notify(undone, refusal)
    return _compared(action, endpoint["EndpointConfigName"], serving, sagemaker) or notify(
        undone,
        f"endpoint {name} is asynchronous or serverless; this stack deploys real-time endpoints; by hand: "
        f"medloop endpoints deploy {model} --target aws",
    )


def _compared(
    action: dict[str, Any], config: str, serving: Serving, sagemaker: SageMakerClient
) -> dict[str, Any] | None:
    """The action with `other_machine`, true if the instance type changes; None for an endpoint of another kind."""
    served = sagemaker.describe_endpoint_config(EndpointConfigName=config)
    machines = {variant.get("InstanceType") for variant in served["ProductionVariants"]}
    if served.get("AsyncInferenceConfig") or machines == {None}:
        return None
    return {**action, "other_machine": machines != {serving.hosting.instance_type}}


def endpoint_of(package: Mapping[str, Any]) -> str:
    """The endpoint that serves a version: the one that its execution named."""
    return str(package.get("CustomerMetadataProperties", {}).get("endpoint") or package["ModelPackageGroupName"])


def _refusal(endpoint: Mapping[str, Any], package: Mapping[str, Any], serving: Serving, *, back: bool) -> str | None:
    """Reason for which an endpoint isn't changed without a person; None if there is none."""
    name, group = endpoint["EndpointName"], package["ModelPackageGroupName"]
    if endpoint["EndpointStatus"] != "InService":
        return f"endpoint {name} is {endpoint['EndpointStatus']}; look at it, then deploy by hand"
    served = version_of_config(endpoint["EndpointConfigName"], group)
    if served is None:
        return f"endpoint {name} was made by someone else ({endpoint['EndpointConfigName']}); nothing was done"
    if served > package["ModelPackageVersion"] and not back:
        command = "promote {} --back" if serving.registry else "deploy {}"
        fix = f"medloop endpoints {command.format(name_of(package))} --target aws"
        return f"endpoint {name} serves the newer {group}/{served}; going back is by hand: {fix}"
    return None


def _requests(package: Mapping[str, Any], serving: Serving, name: str) -> dict[str, Any]:
    arn = package["ModelPackageArn"]
    folder = f"s3://{serving.bucket}/endpoints/{name}"
    model, config = named_requests(serving.hosting, package, serving.role, folder)
    endpoint = {"EndpointName": name, "EndpointConfigName": config["EndpointConfigName"]}
    partition, region = arn.split(":")[1], arn.split(":")[3]
    # The account of what serves: the version may be another's.
    account = serving.role.split(":")[4]
    config_arn = f"arn:{partition}:sagemaker:{region}:{account}:endpoint-config/{config['EndpointConfigName']}"
    return {
        "endpoint": name,
        "model": name_of(package),
        "create_model": {**model, "Tags": serving.tags},
        "create_config": {**config, "Tags": serving.tags},
        "create_endpoint": {**endpoint, "Tags": serving.tags},
        # The number of instances that autoscaling has arrived at outlasts the change.
        "update_endpoint": {
            **endpoint,
            "RetainAllVariantProperties": True,
            "DeploymentConfig": serving.deployment[name],
        },
        "mark": {"ResourceArn": config_arn, "Tags": [{"Key": REFUSED_TAG, "Value": _decision(package)}]},
        **_scaling(serving, name),
    }


def _scaling(serving: Serving, name: str) -> dict[str, Any]:
    """RegisterScalableTarget's and PutScalingPolicy's requests."""
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{name}/variant/{VARIANT}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    metric = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    policy = {"TargetValue": float(serving.scaling["invocations"]), "PredefinedMetricSpecification": metric}
    return {
        "scalable_target": {
            **target,
            "MinCapacity": serving.scaling["minimum"],
            "MaxCapacity": serving.scaling["maximum"],
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


def _refused(sagemaker: SageMakerClient, tag_request: Mapping[str, Any]) -> str | None:
    """The decision for which the configuration was deployed and rolled back; None without a configuration."""
    try:
        pages = sagemaker.get_paginator("list_tags").paginate(ResourceArn=tag_request["ResourceArn"])
        tags = [tag for page in pages for tag in page["Tags"]]
    except Exception as error:
        if _error(error)[0] not in ("ValidationException", "ResourceNotFound", "ResourceNotFoundException"):
            raise
        return None
    values = [tag["Value"] for tag in tags if tag["Key"] == REFUSED_TAG]
    return values[-1] if values else None


def describe_version(arn: str, sagemaker: SageMakerClient) -> DescribeModelPackageOutputTypeDef | None:
    """DescribeModelPackage's answer; None if the version has been deleted since the event."""
    try:
        return sagemaker.describe_model_package(ModelPackageName=arn)
    except Exception as error:
        message = _error(error)[1]
        if "does not exist" not in message and "not found" not in message:
            raise
        return None


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


def _mail(package: Mapping[str, Any], sagemaker: SageMakerClient) -> dict[str, Any]:
    """The notification of approvers, with the links to the evidence; and how its score compares."""
    model, metadata = name_of(package), decoded(package.get("CustomerMetadataProperties"))
    evidence = metadata.get("evaluation", "").rstrip("/")
    lines = [
        f"{model} waits for your decision.",
        f"Score: {metadata.get('score', 'not recorded')}. Evidence: {metadata.get('evidence', 'not recorded')}.",
        f"Report: {_console(evidence, package['ModelPackageArn'])}" if evidence else "Report: not recorded.",
        f"Or: medloop models show {model} --target aws; medloop models open {model} --target aws",
        f"Then: medloop models approve|reject {model} --reason TEXT --target aws",
    ]
    approval = result("approve", f"{model} waits for a decision")
    mail = {"subject": f"medloop: {model} waits for approval"[:MAX_SUBJECT], "message": "\n".join(lines)}
    return {**approval, **mail, "measured": _measured(package, sagemaker)}


def _measured(package: Mapping[str, Any], sagemaker: SageMakerClient) -> list[dict[str, Any]]:
    """PutMetricData's data: the version's score, and its change against the newest Approved version's own.

    The two were scored on the data of their days: models made in the same way score lower when the data have drifted.
    """
    group, scored = package["ModelPackageGroupName"], _score(package)
    if scored is None:
        return []
    name, score = scored
    measured = {SCORE: score}
    if approved := approved_versions(sagemaker, group):
        before = _score(sagemaker.describe_model_package(ModelPackageName=approved[-1]))
        # Against a score of another kind nothing can be said.
        measured |= {SCORE_CHANGE: round(score - before[1], 6)} if before and before[0] == name else {}
    dimensions = [{"Name": DIMENSION, "Value": group}]
    return [{"MetricName": name, "Dimensions": dimensions, "Value": value} for name, value in measured.items()]


def _score(package: Mapping[str, Any]) -> tuple[str, float] | None:
    """The score in a version's metadata (`mean_foreground_dice 0.9123`): name and value; None where there is none."""
    name, _, value = decode(str(package.get("CustomerMetadataProperties", {}).get("score", ""))).rpartition(" ")
    try:
        score = float(value)
    except ValueError:
        return None
    return (name, score) if math.isfinite(score) else None


def _console(folder: str, arn: str) -> str:
    """The page of the console that shows the report; opening it requires the approver's permissions."""
    bucket, key = split_s3_uri(folder)
    region = arn.split(":")[3]
    query = f"region={region}&prefix={quote(f'{key}/{REPORT_FILE}')}"
    return f"https://{region}.console.aws.amazon.com/s3/object/{bucket}?{query}"


def notify(subject: str, reason: str) -> dict[str, Any]:
    """The result that notifies operations."""
    return {**result("tell", reason), "subject": f"medloop: {subject}"[:MAX_SUBJECT], "message": f"{subject}: {reason}"}


def result(action: str, reason: str, config: str = "") -> dict[str, Any]:
    """Response of the function, from which the state machine decides."""
    return {"action": action, "reason": reason, "config": config}


def name_of(package: Mapping[str, Any]) -> str:
    """A version as people write it: group/number."""
    return f"{package['ModelPackageGroupName']}/{package['ModelPackageVersion']}"
