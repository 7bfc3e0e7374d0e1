"""Steps of a pipeline definition, as short as a test can say them."""

from __future__ import annotations

from typing import Any

from medloop.local.state.home import BUCKET, ROLE_ARN


def processing(name: str, image: str, **more: Any) -> dict[str, Any]:
    """A Processing step; `inputs` and `outputs` are S3 URIs by name, `request` adds to its request."""
    inputs, outputs = more.pop("inputs", {}), more.pop("outputs", {})
    app = {"ImageUri": image, **({"ContainerArguments": more.pop("arguments")} if "arguments" in more else {})}
    arguments = {
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10}
        },
        "AppSpecification": app,
        "RoleArn": ROLE_ARN,
        "ProcessingInputs": [
            {
                "InputName": key,
                "S3Input": {
                    "S3Uri": uri,
                    "LocalPath": f"/opt/ml/processing/input/{key}",
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "File",
                },
            }
            for key, uri in inputs.items()
        ],
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": key,
                    "S3Output": {
                        "S3Uri": uri,
                        "LocalPath": f"/opt/ml/processing/output/{key}",
                        "S3UploadMode": "EndOfJob",
                    },
                }
                for key, uri in outputs.items()
            ]
        },
        **more.pop("request", {}),
    }
    return {"Name": name, "Type": "Processing", "Arguments": arguments, **more}


def training(name: str, image: str, channels: dict[str, Any] | None = None, **request: Any) -> dict[str, Any]:
    """A Training step; `channels` are S3 URIs by name, `metrics` regular expressions by name."""
    step = {key: request.pop(key) for key in ("DependsOn",) if key in request}
    metrics = [{"Name": key, "Regex": value} for key, value in request.pop("metrics", {}).items()]
    arguments = {
        "AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": "File", "MetricDefinitions": metrics},
        "RoleArn": ROLE_ARN,
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/models"},
        "ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        **request,
    }
    if channels:  # the service refuses an empty list
        arguments["InputDataConfig"] = [
            {"ChannelName": key, "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}}
            for key, uri in channels.items()
        ]
    return {"Name": name, "Type": "Training", "Arguments": arguments, **step}


def condition(name: str, *conditions: dict[str, Any], yes: list[Any] | None = None, no: list[Any] | None = None) -> Any:
    """A Condition step."""
    arguments = {"Conditions": list(conditions), "IfSteps": yes or [], "ElseSteps": no or []}
    return {"Name": name, "Type": "Condition", "Arguments": arguments}


def compare(kind: str, left: Any, right: Any) -> dict[str, Any]:
    """A condition that compares two values."""
    return {"Type": kind, "LeftValue": left, "RightValue": right}


def fail(name: str, message: Any) -> dict[str, Any]:
    """A Fail step."""
    return {"Name": name, "Type": "Fail", "Arguments": {"ErrorMessage": message}}


def register(name: str, group: str = "tiny", **request: Any) -> dict[str, Any]:
    """A RegisterModel step."""
    specification = {
        "Containers": [{"Image": "image"}],
        "SupportedContentTypes": ["image/png"],
        "SupportedResponseMIMETypes": ["application/json"],
    }
    arguments = {"ModelPackageGroupName": group, "InferenceSpecification": specification, **request}
    return {"Name": name, "Type": "RegisterModel", "Arguments": arguments}
