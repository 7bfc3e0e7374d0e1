"""Inputs, outputs and configuration of a step: URIs, channels, arguments, hyperparameters, instances."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medloop.commands.execution.redaction import redact_setting
from medloop.commands.execution_status import ExecutionStep
from medloop.commands.output import duration
from medloop.definition.read import Definition, member
from medloop.definition.step_types import JobType, type_in_metadata, type_of

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Group:
    """Facts of one kind, as names and texts; secrets are redacted."""

    title: str
    rows: Rows


def job_facts(kind: JobType, job: Mapping[str, Any]) -> list[Group]:
    """List the facts of a job, from the service's description."""
    within = kind.request(job)
    groups = [
        Group("Inputs", _inputs(within)),
        Group("Outputs", _outputs(within)),
        Group("Arguments", _arguments(job.get("AppSpecification", {}).get("ContainerArguments", []))),
        Group("Hyperparameters tuned", _ranges(job.get("HyperParameterTuningJobConfig", {}))),
        Group("Hyperparameters", _named(within.get("StaticHyperParameters") or within.get("HyperParameters", {}))),
        Group("Environment", _named(within.get("Environment", {}))),
        Group("Instances", _instances(kind, job)),
    ]
    return [group for group in groups if group.rows]


def other_facts(sagemaker: SageMakerClient, definition: Definition, step: ExecutionStep) -> list[Group]:
    """List the facts of a step without a job: its condition, function, response or registered version."""
    groups = []
    known = next((item for item in definition.steps if item.name == step.name), None)
    if known is not None and (describe := type_of(known).describe):
        groups.append(Group("Condition", [("asks", describe(known)), ("answer", step.outcome.lower())]))
    if step.registered:
        groups.append(Group("Outputs", _package(sagemaker, step.registered)))
    elif step.resource:
        groups.append(
            Group("Outputs" if type_in_metadata(step.type).creates else "Requested", [(step.type, step.resource)])
        )
    if step.answers:
        groups.append(Group("Outputs", _named(step.answers)))
    return groups


def _package(sagemaker: SageMakerClient, arn: str) -> Rows:
    package = sagemaker.describe_model_package(ModelPackageName=arn)
    container = (package.get("InferenceSpecification", {}).get("Containers") or [{}])[0]
    facts = {"version": arn, "artefact": container.get("ModelDataUrl"), "image": container.get("Image")}
    return [(name, str(value)) for name, value in facts.items() if value]


def _inputs(job: Mapping[str, Any]) -> Rows:
    rows = [(item["InputName"], _source(item)) for item in job.get("ProcessingInputs", [])]
    rows += [(item["ChannelName"], _source(item.get("DataSource", {}))) for item in job.get("InputDataConfig", [])]
    if source := job.get("TransformInput"):
        rows.append(("data", _source(source.get("DataSource", {}))))
    if model := job.get("ModelName"):
        rows.append(("model", str(model)))
    return rows


def _source(source: Mapping[str, Any]) -> str:
    for key in ("S3Input", "S3DataSource"):
        if key in source:
            uri = str(source[key].get("S3Uri", ""))
            return f"{uri} (a manifest)" if source[key].get("S3DataType") == "ManifestFile" else uri
    kind = next((key for key in source if key not in ("InputName", "AppManaged")), "")
    return kind or "made by the service"


def _outputs(job: Mapping[str, Any]) -> Rows:
    outputs = job.get("ProcessingOutputConfig", {}).get("Outputs", [])
    rows = [(item["OutputName"], str(item.get("S3Output", {}).get("S3Uri", "a feature store"))) for item in outputs]
    locations = {
        "model": job.get("ModelArtifacts", {}).get("S3ModelArtifacts"),
        "folder": job.get("OutputDataConfig", {}).get("S3OutputPath"),
        "checkpoints": job.get("CheckpointConfig", {}).get("S3Uri"),
        "TensorBoard": job.get("TensorBoardOutputConfig", {}).get("S3OutputPath"),
        "predictions": job.get("TransformOutput", {}).get("S3OutputPath"),
    }
    return rows + [(name, str(uri)) for name, uri in locations.items() if uri]


def _arguments(arguments: list[str]) -> Rows:
    """Return `--name value` pairs; a flag has no value, and a positional value has no name."""
    rows: Rows = []
    waiting = ""
    for argument in (*arguments, "--"):
        if argument.startswith("--"):
            if waiting:
                rows.append((waiting, ""))
            waiting, joined, value = argument.removeprefix("--").partition("=")
            if joined:
                rows.append((waiting, redact_setting(waiting, value)))
                waiting = ""
        else:
            rows.append((waiting, redact_setting(waiting, argument)))
            waiting = ""
    return rows


def _named(values: Mapping[str, Any]) -> Rows:
    return [(name, redact_setting(name, _plain(value))) for name, value in sorted(values.items())]


def _plain(value: Any) -> str:
    """Return a hyperparameter, which is JSON text, without the quotes of a string."""
    text = str(value)
    if text.startswith('"'):
        try:
            return str(json.loads(text))
        except ValueError:
            return text
    return text


def _ranges(config: Mapping[str, Any]) -> Rows:
    ranges = config.get("ParameterRanges", {})
    rows = []
    for key in ("ContinuousParameterRanges", "IntegerParameterRanges"):
        for item in ranges.get(key, []):
            scale = item.get("ScalingType", "Auto")
            ends = f"{item.get('MinValue', '?')} to {item.get('MaxValue', '?')}"
            rows.append((item["Name"], ends + ("" if scale == "Auto" else f", {scale.lower()}")))
    for item in ranges.get("CategoricalParameterRanges", []):
        rows.append((item["Name"], ", ".join(map(_plain, item.get("Values", [])))))
    limits = config.get("ResourceLimits", {})
    if limits.get("MaxNumberOfTrainingJobs"):
        num_parallel = limits.get("MaxParallelTrainingJobs", 1)
        rows.append(("jobs", f"{limits['MaxNumberOfTrainingJobs']} at most, {num_parallel} at once"))
    return rows


def _instances(kind: JobType, description: Mapping[str, Any]) -> Rows:
    job = kind.request(description)
    specification = job.get("AlgorithmSpecification") or job.get("AppSpecification") or {}
    seconds = member(job, "StoppingCondition.MaxRuntimeInSeconds")
    facts = {
        "image": specification.get("TrainingImage") or specification.get("ImageUri"),
        "instances": instances(kind, description),
        "disk": f"{size} GB" if (size := kind.cluster(description).get("VolumeSizeInGB")) else None,
        "longest run": None if seconds is None else duration(seconds),
        "network": "isolated" if member(job, kind.isolation) else None,
    }
    return [(name, str(value)) for name, value in facts.items() if value]


def instances(kind: JobType, job: Mapping[str, Any]) -> str:
    """Return the instances of a job as text; empty if its description has none."""
    cluster = kind.cluster(job)
    if "InstanceType" not in cluster:
        return ""
    spot = ", spot" if kind.request(job).get("EnableManagedSpotTraining") else ""
    return f"{cluster.get('InstanceCount', 1)} x {cluster['InstanceType']}{spot}"
