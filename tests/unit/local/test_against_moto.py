"""The same calls on the local backend and on moto: the same errors' codes, and no field that the service lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from medloop.local.state.home import BUCKET, ROLE_ARN
from tests.unit.local.conftest import wait_until

pytestmark = pytest.mark.slow

SPECIFICATION = {
    "Containers": [{"Image": "image"}],
    "SupportedContentTypes": ["image/png"],
    "SupportedResponseMIMETypes": ["application/json"],
}
DEFINITION = '{"Version": "2020-12-01", "Parameters": [], "Steps": []}'


def _pipelines(sagemaker: Any, s3: Any) -> list[Callable[[], Any]]:
    create = {"PipelineName": "p", "PipelineDefinition": DEFINITION, "RoleArn": ROLE_ARN}
    return [
        lambda: sagemaker.create_pipeline(**create),
        lambda: sagemaker.create_pipeline(**create),
        lambda: sagemaker.describe_pipeline(PipelineName="p"),
        lambda: sagemaker.update_pipeline(PipelineName="p", PipelineDescription="new"),
        lambda: sagemaker.list_pipelines()["PipelineSummaries"][0],
        lambda: sagemaker.start_pipeline_execution(PipelineName="p"),
        lambda: sagemaker.list_pipeline_executions(PipelineName="p")["PipelineExecutionSummaries"][0],
    ]


def _registry(sagemaker: Any, s3: Any) -> list[Callable[[], Any]]:
    version = {"ModelPackageGroupName": "g", "InferenceSpecification": SPECIFICATION}
    decision = {
        "ModelApprovalStatus": "Approved",
        "ApprovalDescription": "good",
        "CustomerMetadataProperties": {"decided_by": "me"},
    }

    def arn() -> str:
        return str(
            sagemaker.list_model_packages(ModelPackageGroupName="g")["ModelPackageSummaryList"][0]["ModelPackageArn"]
        )

    return [
        lambda: sagemaker.create_model_package_group(ModelPackageGroupName="g"),
        lambda: sagemaker.describe_model_package_group(ModelPackageGroupName="g"),
        lambda: sagemaker.create_model_package(**version),
        lambda: sagemaker.list_model_packages(ModelPackageGroupName="g")["ModelPackageSummaryList"][0],
        lambda: sagemaker.list_model_packages(),
        lambda: sagemaker.update_model_package(ModelPackageArn=arn(), **decision),
        lambda: sagemaker.update_model_package(ModelPackageArn=arn(), ModelApprovalStatus="Perhaps"),
        lambda: sagemaker.update_model_package(ModelPackageArn=f"{arn()}9", ModelApprovalStatus="Approved"),
        lambda: sagemaker.describe_model_package(ModelPackageName=arn()),
        lambda: sagemaker.list_model_packages(ModelPackageGroupName="g", ModelApprovalStatus="Approved")[
            "ModelPackageSummaryList"
        ][0],
        lambda: sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"][0],
    ]


def _objects(sagemaker: Any, s3: Any) -> list[Callable[[], Any]]:
    key = {"Bucket": BUCKET, "Key": "a b/é"}
    return [
        lambda: s3.head_object(**key),
        lambda: s3.get_object(**key),
        lambda: s3.put_object(**key, Body=b"12345"),
        lambda: s3.get_object(**key, Range="bytes=1-2"),
        lambda: s3.get_object(**key, Range="bytes=9-"),
        lambda: s3.get_object(**key, IfMatch='"no"'),
        lambda: s3.put_object(**key, Body=b"", IfNoneMatch="*"),
        lambda: s3.list_objects_v2(Bucket=BUCKET, Prefix="a", Delimiter="/"),
        lambda: s3.list_objects_v2(Bucket="no-such-bucket"),
        lambda: s3.delete_object(**key),
    ]


def _hosting(sagemaker: Any, s3: Any) -> list[Callable[[], Any]]:
    model = {"ModelName": "m", "PrimaryContainer": {"Image": "image"}, "ExecutionRoleArn": ROLE_ARN}
    variant = {"VariantName": "v", "ModelName": "m", "InitialInstanceCount": 1, "InstanceType": "ml.m4.xlarge"}
    config = {"EndpointConfigName": "c", "ProductionVariants": [variant]}
    endpoint = {"EndpointName": "e", "EndpointConfigName": "c"}
    return [
        lambda: sagemaker.describe_model(ModelName="m"),
        lambda: sagemaker.create_model(**model),
        lambda: sagemaker.describe_model(ModelName="m"),
        lambda: sagemaker.list_models()["Models"][0],
        lambda: sagemaker.describe_endpoint_config(EndpointConfigName="c"),
        lambda: sagemaker.create_endpoint_config(**config),
        lambda: sagemaker.describe_endpoint_config(EndpointConfigName="c"),
        lambda: sagemaker.list_endpoint_configs()["EndpointConfigs"][0],
        lambda: sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="none"),
        lambda: sagemaker.describe_endpoint(EndpointName="e"),
        lambda: sagemaker.create_endpoint(**endpoint),
        lambda: sagemaker.describe_endpoint(EndpointName="e"),
        lambda: sagemaker.list_endpoints()["Endpoints"][0],
        lambda: _ended(sagemaker),
        lambda: sagemaker.delete_endpoint(EndpointName="e"),
        lambda: sagemaker.delete_endpoint_config(EndpointConfigName="c"),
        lambda: sagemaker.describe_endpoint_config(EndpointConfigName="c"),
        lambda: sagemaker.delete_model(ModelName="m"),
        lambda: sagemaker.delete_model(ModelName="m"),
    ]


def _ended(sagemaker: Any) -> dict[str, Any]:
    """Wait until an endpoint is in no change: no image of ours is behind it, so that here it fails."""
    wait_until(lambda: sagemaker.describe_endpoint(EndpointName="e")["EndpointStatus"] != "Creating")
    return {}


def responses(calls: list[Callable[[], Any]]) -> list[Any]:
    """For each call the error code, or the response's fields, with values that are the same wherever one runs."""
    results = []
    for call in calls:
        try:
            response = call()
        except ClientError as error:
            results.append(error.response["Error"]["Code"])
        else:
            response.pop("ResponseMetadata", None)
            results.append(response)
    return results


@pytest.mark.parametrize("script", [_pipelines, _registry, _objects, _hosting])
def test_local_backend_answers_as_moto_does(local: Any, monkeypatch: pytest.MonkeyPatch, script: Any) -> None:
    """Error codes agree; a response has moto's fields, except those that moto leaves empty or adds."""
    from moto import mock_aws

    ours = responses(script(local.sagemaker, local.s3))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket=BUCKET)
        theirs = responses(script(boto3.client("sagemaker", region_name="us-east-1"), s3))
    for our, their in zip(ours, theirs, strict=True):
        if isinstance(their, str) or isinstance(our, str):
            assert our == their
            continue
        # moto adds checksums and encryption to S3's answers, and a failure reason to executions that succeeded.
        extra = ("Checksum", "ServerSide", "EncodingType", "PipelineExecutionFailureReason")
        expected = {name for name, value in their.items() if value and not name.startswith(extra)}
        assert expected <= set(our)
        assert {our[name] for name in {"ETag", "ContentRange", "KeyCount"} & expected} == {
            their[name] for name in {"ETag", "ContentRange", "KeyCount"} & expected
        }
