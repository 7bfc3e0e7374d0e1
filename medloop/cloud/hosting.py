"""Requests that put a model on an endpoint, for pipelines' steps and for `medloop endpoints`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from medloop.documents.artefact import environment_of

Kind = Literal["realtime", "serverless", "async"]
VARIANT = "AllTraffic"
MAX_NAME = 63
GPU_AMI = "al2023-ami-sagemaker-inference-gpu-4-1"
"""Driver 580, for CUDA 13. Without a choice GPU instances have driver 470 or 535, and the container can't start.

https://docs.aws.amazon.com/sagemaker/latest/dg/inference-gpu-drivers.html
"""
_GPU = re.compile(r"ml\.(g\d|gr\d|p\d)")


def has_gpu(instance_type: str) -> bool:
    """True if instances of the type have NVIDIA GPUs."""
    return _GPU.match(instance_type) is not None


@dataclass(frozen=True)
class Hosting:
    """Instances or serverless memory of an endpoint.

    Args:
        kind: `realtime` and `async` run on instances, `serverless` on memory by the request.
        instance_type: The instance type of realtime and async.
        instance_count: The number of instances of realtime and async.
        memory_mb: The memory of serverless: 1024 to 6144 in steps of 1024.
        max_concurrency: Invocations at once of serverless.
        max_concurrent: Invocations at once on an instance of async.
        vpc: The service's VpcConfig of the model.
        isolation: True if the container can open no connection.
        volume_key: KMS key of the instances' volumes.
        output_key: KMS key of asynchronous responses.
    """

    kind: Kind = "realtime"
    instance_type: str = "ml.m5.xlarge"
    instance_count: int = 1
    memory_mb: int = 4096
    max_concurrency: int = 5
    max_concurrent: int = 4
    vpc: dict[str, list[str]] | None = None
    isolation: bool = False
    volume_key: str | None = None
    output_key: str | None = None

    def variant(self, model: Any) -> dict[str, Any]:
        """The one production variant; `model` is a name, or a pipeline's expression of one."""
        base = {"VariantName": VARIANT, "ModelName": model}
        if self.kind == "serverless":
            memory = {"MemorySizeInMB": self.memory_mb, "MaxConcurrency": self.max_concurrency}
            return {**base, "ServerlessConfig": memory}
        instances = {"InstanceType": self.instance_type, "InitialInstanceCount": self.instance_count}
        ami = {"InferenceAmiVersion": GPU_AMI} if has_gpu(self.instance_type) else {}
        return {**base, **instances, "InitialVariantWeight": 1.0, **ami}

    def asynchronous(self, folder: str) -> dict[str, Any] | None:
        """The AsyncInferenceConfig of an asynchronous endpoint, None of any other; `folder` is for its responses."""
        if self.kind != "async":
            return None
        output = {"S3OutputPath": f"{folder}/output", "S3FailurePath": f"{folder}/failed"}
        key = {"KmsKeyId": self.output_key} if self.output_key else {}
        clients = {"MaxConcurrentInvocationsPerInstance": self.max_concurrent}
        return {"ClientConfig": clients, "OutputConfig": {**output, **key}}


def model_request(
    hosting: Hosting, package: str, role: str, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """CreateModel's request for a registered version, without its name."""
    container = {"ModelPackageName": package} | ({"Environment": dict(environment)} if environment else {})
    request: dict[str, Any] = {"PrimaryContainer": container, "ExecutionRoleArn": role}
    request |= {"EnableNetworkIsolation": True} if hosting.isolation else {}
    return request | ({"VpcConfig": hosting.vpc} if hosting.vpc else {})


def config_request(hosting: Hosting, model: str, folder: str) -> dict[str, Any]:
    """CreateEndpointConfig's request, without its name."""
    queue = hosting.asynchronous(folder)
    request: dict[str, Any] = {"ProductionVariants": [hosting.variant(model)]}
    request |= {"AsyncInferenceConfig": queue} if queue else {}
    return request | ({"KmsKeyId": hosting.volume_key} if hosting.volume_key and hosting.kind != "serverless" else {})


def named_requests(
    hosting: Hosting, package: Mapping[str, Any], role: str, folder: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """CreateModel's and CreateEndpointConfig's complete requests for a registered version.

    Their names are made of the version and of their content, so two deployments of the same version with the
    same hosting send the same requests.

    Args:
        hosting: The endpoint's hosting.
        package: DescribeModelPackage's response.
        role: ARN of the role that the container runs with.
        folder: s3:// folder of asynchronous responses.
    """
    begin = f"{package['ModelPackageGroupName']}-{package['ModelPackageVersion']}"
    model = model_request(hosting, package["ModelPackageArn"], role, environment_of(package))
    model = {"ModelName": content_name(begin, model), **model}
    config = config_request(hosting, model["ModelName"], folder)
    return model, {"EndpointConfigName": content_name(begin, config), **config}


def version_of_config(name: str, group: str) -> int | None:
    """The version that a configuration serves, by its name; None of a name that `named_requests` didn't give."""
    match = re.fullmatch(rf"{re.escape(group)}-(\d+)-[0-9a-f]{{10}}", name)
    return int(match[1]) if match else None


def content_name(begin: str, request: dict[str, Any]) -> str:
    """A name that equal requests share and others don't, within the service's 63 characters."""
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:10]
    return f"{begin[: MAX_NAME - len(digest) - 1].rstrip('-')}-{digest}"
