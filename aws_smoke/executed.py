"""A definition's requests as an execution on AWS would send them: every expression filled in, no job run.

Each step's result is what the service's Describe call would answer, made of the request.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from medloop.definition.read import Definition, Step, member, read_definition
from medloop.documents.champion import CLASSES_DIGEST
from medloop.documents.file_names import ARCHIVE_FILE, EVALUATION_FILE, REGISTRATION_FILE
from medloop.documents.registration import CARD, METADATA, METRIC_GROUPS
from medloop.local.engine.expressions import Scope, resolve

DATA = "s3://data-of-the-clinic/raw/segmentation/spleen/"
EXECUTION = "k3xample9id"
JOB = f"pipelines-{EXECUTION}"
EVIDENCE = {name: f"the {name}" for name in (*METADATA, *CARD, CLASSES_DIGEST)} | {
    METRIC_GROUPS: json.dumps([{"name": "gate", "metric_data": [{"name": "score", "type": "number", "value": 0.9}]}]),
    "best_value": "0.900000",
    "evaluation_digest": f"sha256:{'e' * 64}",
}
EVALUATION = {
    "score": {"name": "macro_auroc", "value": 0.9},
    "gate": {"margin_left": 0.1, "floor_left": 0.0, "num_patients": 40, "champion": "none", "verdict": "passed"},
}


@dataclass(frozen=True)
class Executed:
    """A step with its arguments as they are sent.

    Args:
        step: The step.
        request: Its arguments, without expressions.
        name: The job's name, as the service makes it; the step's name if it has no job.
        property_files: S3 URIs of its property files.
    """

    step: Step
    request: dict[str, Any]
    name: str
    property_files: tuple[str, ...] = ()


def executed(text: str, account: str, region: str, data: str = DATA) -> Iterator[Executed]:
    """Yield every step of a definition in order, both branches of conditions too.

    Args:
        text: The definition.
        account: Number of the account.
        region: Its region.
        data: The execution's InputData.
    """
    definition = read_definition(text)
    arn = f"arn:aws:sagemaker:{region}:{account}"
    execution = {
        "PipelineExecutionId": EXECUTION,
        "PipelineExecutionArn": f"{arn}:pipeline/{_pipeline(definition)}/execution/{EXECUTION}",
    }
    documents = {EVALUATION_FILE: EVALUATION, REGISTRATION_FILE: EVIDENCE}
    scope = Scope(
        parameters={parameter.name: parameter.default for parameter in definition.parameters}
        | {"InputData": data, "DataVersion": "d" * 64},
        execution=execution,
        read=lambda uri: json.dumps(documents[uri.rpartition("/")[2]]).encode(),
    )
    for step in definition.in_order():
        branches = ("IfSteps", "ElseSteps") if step.type == "Condition" else ()
        request = resolve({key: value for key, value in step.arguments.items() if key not in branches}, scope)
        name = f"{JOB}-{step.name}-x0y1z2" if step.type != "Tuning" else f"{EXECUTION}-{step.name[:8]}-x0y1"
        files = tuple(_property_files(step, request))
        scope.property_files.update({(step.name, name): uri for name, uri in files})
        scope.steps[step.name] = _result(step, request, name, arn)
        yield Executed(step, request, name, tuple(uri for _, uri in files))


def _pipeline(definition: Definition) -> str:
    tags = next(step.arguments["Tags"] for step in definition.steps if "Tags" in step.arguments)
    return str(next(tag["Value"] for tag in tags if tag["Key"] == "medloop:pipeline"))


def _property_files(step: Step, request: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    folders = {
        output["OutputName"]: output["S3Output"]["S3Uri"]
        for output in member(request, "ProcessingOutputConfig.Outputs") or []
    }
    for file in step.document.get("PropertyFiles", []):
        yield file["PropertyFileName"], f"{folders[file['OutputName']]}/{file['FilePath']}"


def _result(step: Step, request: dict[str, Any], name: str, arn: str) -> dict[str, Any]:
    if step.type == "Processing":
        return {**request, "ProcessingJobArn": f"{arn}:processing-job/{name}"}
    if step.type == "Training":
        folder = request["OutputDataConfig"]["S3OutputPath"]
        return {**request, "ModelArtifacts": {"S3ModelArtifacts": f"{folder}/{name}/output/{ARCHIVE_FILE}"}}
    if step.type == "Tuning":
        return {**request, "BestTrainingJob": {"TrainingJobName": f"{name}-001-0a1b2c3d"}}
    if step.type == "Lambda":
        outputs = [item["OutputName"] for item in step.document["OutputParameters"]]
        none = request["none"]
        values = {name: none if name.endswith("_model") else "0" if name == "test_uses" else "none" for name in outputs}
        return {"OutputParameters": values, "Outputs": values}
    named = {"Model": "ModelName", "EndpointConfig": "EndpointConfigName", "Endpoint": "EndpointName"}
    return request | ({named[step.type]: request.get(named[step.type], name)} if step.type in named else {})
