"""Endpoints' requests: GPUs get the driver that the image's CUDA needs."""

from __future__ import annotations

import pytest

from medloop.cloud.hosting import GPU_AMI, Hosting, config_request, has_gpu
from medloop.definition.requests import operation_problems


@pytest.mark.parametrize(
    ("hosting", "ami"),
    [
        (Hosting(instance_type="ml.g5.xlarge"), GPU_AMI),
        (Hosting(instance_type="ml.g4dn.2xlarge", kind="async"), GPU_AMI),
        (Hosting(instance_type="ml.p4d.24xlarge"), GPU_AMI),
        (Hosting(instance_type="ml.g6e.xlarge"), GPU_AMI),
        (Hosting(instance_type="ml.m5.xlarge"), None),
        (Hosting(instance_type="ml.c5.2xlarge", kind="async"), None),
        (Hosting(instance_type="ml.inf2.xlarge"), None),
        (Hosting(instance_type="ml.g5.xlarge", kind="serverless"), None),
    ],
)
def test_gpu_instances_have_a_driver_of_cuda_13(hosting: Hosting, ami: str | None) -> None:
    """The service's default has driver 470 or 535, on which the container can't start."""
    request = config_request(hosting, "model", "s3://b/folder")
    (variant,) = request["ProductionVariants"]
    assert variant.get("InferenceAmiVersion") == ami
    assert list(operation_problems("CreateEndpointConfig", {"EndpointConfigName": "c", **request})) == []


def test_gpus_are_known_by_their_family() -> None:
    """Of NVIDIA: g and p, of any generation; Graviton and Inferentia are none."""
    assert all(map(has_gpu, ("ml.g4dn.xlarge", "ml.gr6.4xlarge", "ml.p5en.48xlarge", "ml.g6.xlarge")))
    assert not any(map(has_gpu, ("ml.m6g.xlarge", "ml.c7g.large", "ml.trn1.2xlarge", "ml.t3.medium", "ml.inf1.xlarge")))
