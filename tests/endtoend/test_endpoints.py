"""A classifier is trained, approved, deployed, invoked, updated and deleted through the command line."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medloop.documents.archive import MODEL_LIMITS, unpack
from medloop.local.session import local_session
from medloop.local.state.home import BUCKET, ROLE_ARN
from tests.endtoend.test_local_run import SMALL, STATED, wait_for

pytestmark = pytest.mark.slow
NAME = "medloop-classification-bilder-fur-alle"


def swap_model(medloop: Any, scratch: Path) -> None:
    """Put a model under the key of version 1 that differs in one bit of its weights."""
    bucket, _, key = medloop.json("models", "show", f"{NAME}/1")["artefact"].removeprefix("s3://").partition("/")
    stored = medloop.home / "s3" / bucket / key
    unpack(stored, scratch / "model", MODEL_LIMITS)
    weights = scratch / "model" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with tarfile.open(scratch / "model.tar.gz", "w:gz") as archive:
        archive.add(scratch / "model", ".")
    local_session(medloop.home).client("s3").upload_file(str(scratch / "model.tar.gz"), bucket, key)
    assert medloop.json("models", "show", f"{NAME}/1")["artefact_state"].startswith("changed: ")


def assert_no_container_loads_it(medloop: Any, image: Path) -> None:
    """Neither a new endpoint of any kind nor a batch transform, by requests that no command of medloop checks."""
    session = local_session(medloop.home)
    sagemaker = session.client("sagemaker")
    arn = medloop.json("models", "show", f"{NAME}/1")["arn"]
    sagemaker.create_model(ModelName="m", PrimaryContainer={"ModelPackageName": arn}, ExecutionRoleArn=ROLE_ARN)
    instances = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    queue = {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/async"}}}
    memory = {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 1}}
    kinds: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "realtime": (instances, {}), "queued": (instances, queue), "serverless": (memory, {})
    }  # fmt: skip
    for kind, (variant, more) in kinds.items():
        variants = [{"VariantName": "A", "ModelName": "m", **variant}]
        sagemaker.create_endpoint_config(EndpointConfigName=kind, ProductionVariants=variants, **more)
        sagemaker.create_endpoint(EndpointName=kind, EndpointConfigName=kind)
    session.client("s3").upload_file(str(image), BUCKET, "in/a.png")
    sagemaker.create_transform_job(
        TransformJobName="t",
        ModelName="m",
        TransformInput={"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/in/"}}},
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/out"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    for kind in kinds:
        wait_for(lambda kind=kind: sagemaker.describe_endpoint(EndpointName=kind)["EndpointStatus"] == "Failed")
        assert "MEDLOOP_MODEL_SHA256" in sagemaker.describe_endpoint(EndpointName=kind)["FailureReason"]
        sagemaker.delete_endpoint(EndpointName=kind)
    wait_for(lambda: sagemaker.describe_transform_job(TransformJobName="t")["TransformJobStatus"] == "Failed")
    assert "MEDLOOP_MODEL_SHA256" in sagemaker.describe_transform_job(TransformJobName="t")["FailureReason"]


def test_a_pipeline_deploys_and_an_approver_updates(medloop: Any, images: Path, tmp_path: Path) -> None:
    """deploy.mode=pipeline creates the endpoint; an approved version updates it; an unreadable file is refused."""
    unseen = tmp_path / "unseen.png"
    pixels = np.random.default_rng(9).integers(180, 220, (32, 32), dtype=np.uint8)
    Image.fromarray(pixels).save(unseen)
    sets = ("--set", "deploy.mode=pipeline", "--param", "MinScore=0", *STATED)
    assert medloop("run", "classification", "--data", str(images), *SMALL, *sets) == 0, medloop.err
    try:
        first = medloop.json("endpoints", "invoke", NAME, str(unseen))
        assert set(first["probabilities"]) == {"bright", "dark"}
        assert sum(first["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert medloop("endpoints", "deploy", NAME) == 2
        assert f"medloop models approve {NAME}/1" in medloop.err
        assert medloop("models", "approve", f"{NAME}/1", "--reason", "it tells bright from dark", "--as", "QM") == 0, (
            medloop.err
        )
        assert medloop.json("endpoints", "deploy", NAME)["action"] == "updated"
        assert medloop.json("endpoints", "deploy", NAME)["action"] == "unchanged"
        assert medloop.json("endpoints", "invoke", NAME, str(unseen))["probabilities"] == first["probabilities"]
        (row,) = medloop.json("endpoints", "list")
        assert (row["status"], row["model"]) == ("InService", f"{NAME}/1")
        swap_model(medloop, tmp_path)
        assert medloop("endpoints", "deploy", NAME) == 2
        assert "model.tar.gz: has the digest" in medloop.err
        assert_no_container_loads_it(medloop, unseen)
        unseen.write_bytes(b"no image")
        assert medloop("endpoints", "invoke", NAME, str(unseen)) == 2
        assert "the model refuses it (415)" in medloop.err
    finally:
        assert medloop("endpoints", "delete", NAME) == 0
    assert NAME not in [row["endpoint"] for row in medloop.json("endpoints", "list")]
    wait_for(lambda: not any((medloop.home / "endpoints").glob("*")))
