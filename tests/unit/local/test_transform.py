"""Transform jobs and the steps of hosting, with a serving container of a few lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from medloop.local.state.home import BUCKET, ROLE_ARN
from tests.unit.local.conftest import Local, wait_until
from tests.unit.local.hosting import Hosting


@pytest.fixture
def hosting(local: Local) -> Iterator[Hosting]:
    """A backend that can serve; nothing runs when the test has ended."""
    made = Hosting.on(local)
    yield made
    made.close()


def request(model: Any, name: str = "t") -> dict[str, Any]:
    """CreateTransformJob's request over s3://BUCKET/in/."""
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/in/"}}
    return {
        "TransformJobName": name,
        "ModelName": model,
        "TransformInput": {"DataSource": source, "ContentType": "image/png"},
        "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/out", "Accept": "application/json"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }


def put(hosting: Hosting, **objects: bytes) -> None:
    """Store objects below in/."""
    for name, body in objects.items():
        hosting.local.s3.put_object(Bucket=BUCKET, Key=f"in/x/{name}.png", Body=body)


def finished(hosting: Hosting, name: str = "t") -> dict[str, Any]:
    """Wait for the job's end; its description."""

    def describe() -> dict[str, Any]:
        return dict(hosting.local.sagemaker.describe_transform_job(TransformJobName=name))

    wait_until(lambda: describe()["TransformJobStatus"] not in ("InProgress", "Stopping"))
    return describe()


@pytest.mark.slow
def test_every_object_gets_its_answer(hosting: Hosting) -> None:
    """One `.out` an object, at its own place below the output path."""
    hosting.model("one")
    put(hosting, a=b"1", b=b"22")
    hosting.local.sagemaker.create_transform_job(
        **request("one"), MaxConcurrentTransforms=2, Environment={"SETTING": "t"}
    )
    assert finished(hosting)["TransformJobStatus"] == "Completed"
    responses = [json.loads(hosting.local.read(f"s3://{BUCKET}/out/x/{name}.png.out")) for name in "ab"]
    assert [response["size"] for response in responses] == [1, 2]
    assert {(response["type"], response["setting"]) for response in responses} == {("image/png", "t")}
    (listed,) = hosting.local.sagemaker.list_transform_jobs()["TransformJobSummaries"]
    assert listed["TransformJobArn"].endswith(":transform-job/t")


@pytest.mark.slow
def test_one_refused_object_fails_the_job_and_leaves_no_answers(hosting: Hosting) -> None:
    """The object and the container's words are the reason."""
    hosting.model("one")
    put(hosting, a=b"1", b=b"bad")
    hosting.local.sagemaker.create_transform_job(**request("one"))
    ended = finished(hosting)
    assert ended["TransformJobStatus"] == "Failed"
    assert "in/x/b.png: 400" in ended["FailureReason"]
    assert "no image" in ended["FailureReason"]
    assert "Contents" not in hosting.local.s3.list_objects_v2(Bucket=BUCKET, Prefix="out/")


@pytest.mark.slow
def test_job_that_fails_while_storing_withdraws_the_outputs_stored_before(hosting: Hosting) -> None:
    """The second response can't be stored, as its key is part of another object's: the first one is gone again."""
    hosting.model("one")
    put(hosting, a=b"1", b=b"22")
    hosting.local.s3.put_object(Bucket=BUCKET, Key="out/x/b.png.out/other", Body=b"3")
    hosting.local.sagemaker.create_transform_job(**request("one"))
    ended = finished(hosting)
    assert ended["TransformJobStatus"] == "Failed"
    assert "can't store 'out/x/b.png.out'" in ended["FailureReason"]
    left = hosting.local.s3.list_objects_v2(Bucket=BUCKET, Prefix="out/")["Contents"]
    assert [item["Key"] for item in left] == ["out/x/b.png.out/other"]


@pytest.mark.slow
def test_transform_can_be_stopped_and_needs_a_model(hosting: Hosting) -> None:
    """Stopped, without answers; a model that doesn't exist is refused at once."""
    hosting.model("one")
    put(hosting, a=b"sleep 1", b=b"sleep 1", c=b"sleep 1")
    with pytest.raises(ClientError, match="Could not find model"):
        hosting.local.sagemaker.create_transform_job(**request("none"))
    hosting.local.sagemaker.create_transform_job(**request("one"))
    hosting.local.sagemaker.stop_transform_job(TransformJobName="t")
    assert finished(hosting)["TransformJobStatus"] == "Stopped"
    assert "Contents" not in hosting.local.s3.list_objects_v2(Bucket=BUCKET, Prefix="out/")


@pytest.mark.slow
def test_pipeline_makes_and_updates_an_endpoint(hosting: Hosting) -> None:
    """Model, EndpointConfig, Endpoint and Transform steps; a second execution updates the endpoint in place."""
    put(hosting, a=b"1")

    def steps(word: str) -> list[dict[str, Any]]:
        container = {"Image": hosting.image, "ModelDataUrl": hosting.store(word)}
        model = {"Get": "Steps.Model.ModelName"}
        name = {"Std:Join": {"On": "-", "Values": ["c", {"Get": "Execution.PipelineExecutionId"}]}}
        machine = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        variants = [{"VariantName": "A", "ModelName": model, **machine}]
        config = {"EndpointConfigName": name, "ProductionVariants": variants}
        endpoint = {"EndpointName": "live", "EndpointConfigName": {"Get": "Steps.Config.EndpointConfigName"}}
        transform = {key: value for key, value in request(model).items() if key != "TransformJobName"}
        return [
            {
                "Name": "Model",
                "Type": "Model",
                "Arguments": {"PrimaryContainer": container, "ExecutionRoleArn": ROLE_ARN},
            },
            {"Name": "Config", "Type": "EndpointConfig", "Arguments": config},
            {"Name": "Endpoint", "Type": "Endpoint", "Arguments": endpoint},
            {"Name": "Transform", "Type": "Transform", "Arguments": transform},
        ]

    for word in ("one", "two"):
        ended, shown = hosting.local.run(steps(word))
        assert ended["PipelineExecutionStatus"] == "Succeeded", ended
        assert json.loads(hosting.invoke(b""))["word"] == word
        assert json.loads(hosting.local.read(f"s3://{BUCKET}/out/x/a.png.out"))["word"] == word
        assert shown["Endpoint"]["Metadata"]["Endpoint"]["Arn"].endswith(":endpoint/live")
        assert shown["Transform"]["Metadata"]["TransformJob"]["Arn"]

    ended, shown = hosting.local.run(steps("broken"))
    assert ended["PipelineExecutionStatus"] == "Failed"
    assert "did not pass the ping health check" in shown["Endpoint"]["FailureReason"]
    assert json.loads(hosting.invoke(b""))["word"] == "two"
