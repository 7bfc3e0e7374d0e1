"""Deployment by the calls that AWS gets (moto stands for AWS; it knows no UpdateEndpoint)."""

from __future__ import annotations

import boto3
import pytest

from medloop.cloud.hosting import Hosting, model_request
from medloop.cloud.target import Target
from medloop.commands.hosting.deployment import deploy_model, remove_endpoint
from medloop.commands.options import Services
from medloop.errors import UserError

pytestmark = pytest.mark.slow
ROLE = "arn:aws:iam::123456789012:role/medloop"


def test_a_version_is_deployed_once_and_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Model and configuration are those of the settings; the second time nothing is requested."""
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        session = boto3.Session(region_name="us-east-1")
        sagemaker = session.client("sagemaker")
        sagemaker.create_model_package_group(ModelPackageGroupName="g")
        container = {"Image": "image", "ModelDataUrl": "s3://b/model.tar.gz"}
        specification = {"Containers": [container], "SupportedContentTypes": [], "SupportedResponseMIMETypes": []}
        arn = sagemaker.create_model_package(ModelPackageGroupName="g", InferenceSpecification=specification)[
            "ModelPackageArn"
        ]
        target = Target("aws", session, "bucket", ROLE, "123456789012", "us-east-1")
        services = Services(sleep=lambda _: None)
        with pytest.raises(UserError, match="medloop models approve g/1"):
            deploy_model(services, target, arn)
        sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
        vpc = {"Subnets": ["subnet-12345678"], "SecurityGroupIds": ["sg-12345678"]}
        hosting = Hosting(kind="async", instance_type="ml.c5.xlarge", vpc=vpc, isolation=True)
        with pytest.raises(UserError, match=r"registered for no instance type, and ml\.g5\.xlarge has GPUs"):
            deploy_model(services, target, arn, hosting=Hosting(instance_type="ml.g5.xlarge"))

        assert deploy_model(services, target, arn, hosting=hosting).action == "created"
        assert deploy_model(services, target, arn, hosting=hosting).action == "unchanged"

        endpoint = sagemaker.describe_endpoint(EndpointName="g")
        config = sagemaker.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
        (variant,) = config["ProductionVariants"]
        assert variant["InstanceType"] == "ml.c5.xlarge"
        assert config["AsyncInferenceConfig"]["OutputConfig"]["S3OutputPath"] == "s3://bucket/endpoints/g/output"
        model = sagemaker.describe_model(ModelName=variant["ModelName"])
        assert model["PrimaryContainer"]["ModelPackageName"] == arn
        assert model["VpcConfig"] == vpc
        assert model_request(hosting, arn, ROLE)["EnableNetworkIsolation"] is True  # which moto drops
        assert len(sagemaker.list_models()["Models"]) == len(sagemaker.list_endpoint_configs()["EndpointConfigs"]) == 1

        remove_endpoint(services, sagemaker, "g")
        assert sagemaker.list_endpoints()["Endpoints"] == []
