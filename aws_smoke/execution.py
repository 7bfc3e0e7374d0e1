"""Check `run`: the classification pipeline at smoke size on CPU instances, from upload to a rejected version."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from aws_smoke.check import Case, Learned, NotTriedError, UnexpectedError
from aws_smoke.lab import Lab
from aws_smoke.refusal import failed_step, follow
from medloop.cloud.layout import group_name
from medloop.cloud.upsert import upsert
from medloop.definition.read import read_definition
from medloop.input_data import data_version
from medloop.settings import Resolved, resolve

PIPELINE = "classification"
INSTANCE = "ml.m5.large"
JOBS = ("split", "train", "evaluate")
CONTAINERS = ("split", "classify", "evaluate", "serve")
"""Containers whose images its definition names."""
ESTIMATED_HOURS, MAX_MINUTES, VOLUME_GB = 0.1, 20, 30
SETTINGS = (
    "smoke=true",
    "cache_days=0",
    "train.checkpoints=false",
    *(
        f"{job}.{name}={value}"
        for job in JOBS
        for name, value in (
            ("instance_type", INSTANCE),
            ("volume_gb", VOLUME_GB),
            ("max_runtime_minutes", MAX_MINUTES),
        )
    ),
)
IMAGES_PER_CLASS = 15
_PIXELS = 64


def smoke_settings(lab: Lab) -> Resolved:
    """Make the run's choices; the project's name has the run's id, so that outputs and pipeline have it."""
    return resolve(PIPELINE, None, (*SETTINGS, *lab.stack.network), project=lab.marker)


def execution_cases(lab: Lab) -> Iterator[Case]:
    """Yield upload, upsert, and the steps' ends."""
    run = _Execution(lab)
    yield Case("data uploaded", run.upload)
    yield Case("pipeline stored by `pipelines upsert`", run.store)
    yield Case("execution Succeeded", run.execute)
    yield Case("version registered as Rejected, with its card", run.verify_version)


@dataclass
class _Execution:
    lab: Lab
    data: str = ""
    pipeline: str = ""
    execution: str = ""
    succeeded: bool = False

    def upload(self) -> str:
        """Upload images of two classes; without a manifest, which would start a stack's pipeline."""
        lab = self.lab
        bucket, folder = lab.stack.outputs["DataBucket"], f"raw/{PIPELINE}/{lab.marker}"
        for name, content in tiny_images():
            lab.put_object(bucket, f"{folder}/{name}", content)
        self.data = f"s3://{bucket}/{folder}/"
        return self.data

    def store(self) -> str:
        """Store the pipeline, then let it register in the stack's group: its role may register nowhere else."""
        lab, resolved = self.lab, smoke_settings(self.lab)
        lab.notes += [("pipeline", resolved.pipeline), ("model group", resolved.group)]
        upsert(lab.target, resolved)
        described = lab.send("sagemaker", "DescribePipeline", {"PipelineName": resolved.pipeline})
        definition = replace_text(described["PipelineDefinition"], resolved.group, group_name(PIPELINE, ""))
        request = {"PipelineName": resolved.pipeline, "PipelineDefinition": definition}
        lab.send("sagemaker", "UpdatePipeline", request)
        self.pipeline = resolved.pipeline
        return self.pipeline

    def execute(self) -> str:
        """Start an execution and wait for its end."""
        if not (self.pipeline and self.data):
            raise NotTriedError("the pipeline or its data weren't stored")
        lab = self.lab
        values = {
            "InputData": self.data,
            "DataVersion": data_version(lab.client("s3"), self.data) or "",
            "ApprovalStatus": "Rejected",
            "MinScore": "0",
        }
        request = {
            "PipelineName": self.pipeline,
            "PipelineParameters": [{"Name": name, "Value": value} for name, value in values.items()],
            "ClientRequestToken": str(uuid.uuid4()),
        }
        self.execution = lab.send("sagemaker", "StartPipelineExecution", request)["PipelineExecutionArn"]
        described = follow(lab, self.execution, seconds=3600)
        if described["PipelineExecutionStatus"] != "Succeeded":
            step = failed_step(lab, self.execution)
            raise UnexpectedError(f"step {step['StepName']}: {step.get('FailureReason', 'failed without a reason')}")
        self.succeeded = True
        return self.execution

    def verify_version(self) -> str:
        """Find the version that the execution registered, and its card."""
        if not self.succeeded:
            raise NotTriedError("the execution didn't succeed")
        package = self._find_version()
        card = package.get("ModelCard", {}).get("ModelCardContent", "")
        expressions = [text for text in ("Std:", '"Get"') if text in card]
        if package["ModelApprovalStatus"] != "Rejected" or expressions or not json.loads(card or "{}"):
            raise UnexpectedError(
                f"version {package['ModelPackageArn']}: {package['ModelApprovalStatus']}, card {card!r}"
            )
        return Learned(f"{package['ModelPackageArn']}: its texts are filled in")

    def _find_version(self) -> dict[str, Any]:
        lab = self.lab
        request = {"ModelPackageGroupName": group_name(PIPELINE, ""), "CreationTimeAfter": lab.started}
        for item in lab.send("sagemaker", "ListModelPackages", request)["ModelPackageSummaryList"]:
            package = lab.send("sagemaker", "DescribeModelPackage", {"ModelPackageName": item["ModelPackageArn"]})
            if package.get("CustomerMetadataProperties", {}).get("execution") == self.execution:
                lab.notes.append(("model version", item["ModelPackageArn"]))
                return package
        raise UnexpectedError(f"group {request['ModelPackageGroupName']}: no version of execution {self.execution}")


def replace_text(definition: str, old: str, new: str) -> str:
    """Replace each value of a definition that equals a text."""

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: replaced(member) for name, member in value.items()}
        if isinstance(value, list):
            return [replaced(element) for element in value]
        return new if value == old else value

    text = json.dumps(replaced(json.loads(definition)))
    read_definition(text)
    return text


def tiny_images() -> Iterator[tuple[str, bytes]]:
    """Yield names and PNGs of noise, dark or bright by class."""
    generator = np.random.default_rng(0)
    for name, mean in (("bright", 170), ("dark", 80)):
        for number in range(IMAGES_PER_CLASS):
            pixels = generator.normal(mean, 20, (_PIXELS, _PIXELS)).clip(0, 255).astype(np.uint8)
            content = io.BytesIO()
            Image.fromarray(pixels).save(content, "PNG")
            yield f"{name}/{number:02}.png", content.getvalue()
