"""The members that a step of a definition may have, each with where that was proven.

CreatePipeline refuses a member that it doesn't know, with all steps of the pipeline, although botocore's model of the
job's request has it: the service's model of definitions is its own, and no model of it is published but a schema.
`schema_members.json` lists the schema's members by step type. It is older than the SDK, so `PROVEN` lists what else
may be in a definition. A member outside both is refused when a pipeline is built.
https://github.com/aws-sagemaker-mlops/sagemaker-model-building-pipeline-definition-JSON-schema
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Any

from medloop.definition.read import CONDITION, Definition, Step, is_expression

ANY = "*"
"""In a path, any key of a map."""
BRANCHES = frozenset({"IfSteps", "ElseSteps"})


class Proof(StrEnum):
    """Evidence that a definition may have a member; the last two are no proof."""

    SCHEMA = "the service's JSON schema of definitions"
    INTEGRATION_TEST = "an integration test of the SDK, which runs against the service"
    DOCUMENTED = "the service's documentation of pipelines"
    RECORDED = "a user's record of an execution whose step sent it to the service"
    SDK = "the SDK writes it into definitions; no record of a service that takes it"
    REQUEST = "the job's request has it; no definition with it could be found"


UNPROVEN = frozenset({Proof.SDK, Proof.REQUEST})


@dataclass(frozen=True)
class Member:
    """A member that the schema lacks.

    Args:
        type: The step type.
        path: Names joined by dots; what is below it is the request's.
        proof: Where it was proven.
        source: The test, page or code.
    """

    type: str
    path: str
    proof: Proof
    source: str


_CHECKS = "tests/integ/sagemaker/workflow/test_quality_check_steps.py, test_clarify_check_steps.py (SDK v2)"
_DECORATOR = "sagemaker-mlops/tests/integ/workflow/test_step_decorator.py"
_KEYS = "https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-default-keys.html"
_MODEL_STEPS = "tests/integ/sagemaker/workflow/test_model_steps.py (SDK v2)"
_REGISTRATION = "tests/integ/sagemaker/workflow/test_model_create_and_registration.py (SDK v2)"
_TUNING_STEPS = "tests/integ/sagemaker/workflow/test_tuning_steps.py (SDK v2)"
_TUNER = "sagemaker/train/tuner.py"
_TUNING = "CreateHyperParameterTuningJob"
PROVEN = (
    Member("Training", "Arguments.AlgorithmSpecification.ContainerEntrypoint", Proof.INTEGRATION_TEST, _DECORATOR),
    Member("Training", "Arguments.AlgorithmSpecification.ContainerArguments", Proof.INTEGRATION_TEST, _DECORATOR),
    Member("Training", "Arguments.Environment", Proof.INTEGRATION_TEST, f"{_DECORATOR}; {_KEYS}"),
    Member("Training", "Arguments.ResourceConfig.KeepAlivePeriodInSeconds", Proof.INTEGRATION_TEST, _DECORATOR),
    Member("Processing", "PropertyFiles", Proof.INTEGRATION_TEST, _TUNING_STEPS),
    # The SDK's steps always write it.
    Member("QualityCheck", "FailOnViolation", Proof.INTEGRATION_TEST, _CHECKS),
    Member("ClarifyCheck", "FailOnViolation", Proof.INTEGRATION_TEST, _CHECKS),
    Member("RegisterModel", "Arguments.ModelApprovalStatus", Proof.INTEGRATION_TEST, _REGISTRATION),
    Member("RegisterModel", "Arguments.CustomerMetadataProperties", Proof.INTEGRATION_TEST, _REGISTRATION),
    # With a script of its own the SDK's model has variables that name it (SDK v2's unit tests of the same step).
    Member(
        "RegisterModel",
        "Arguments.InferenceSpecification.Containers.Environment",
        Proof.INTEGRATION_TEST,
        f"{_MODEL_STEPS}, with_custom_inference",
    ),
    Member("RegisterModel", "Arguments.Domain", Proof.INTEGRATION_TEST, _REGISTRATION),
    Member("RegisterModel", "Arguments.Task", Proof.INTEGRATION_TEST, _REGISTRATION),
    Member("RegisterModel", "Arguments.ModelCard", Proof.INTEGRATION_TEST, _MODEL_STEPS),
    Member("RegisterModel", "Arguments.SkipModelValidation", Proof.INTEGRATION_TEST, _MODEL_STEPS),
    # SDK 2.135's tuner writes it; the pipeline was created, and its step reached CreateHyperParameterTuningJob, which
    # refused a change of it against the job of a warm start.
    Member(
        "Tuning",
        "Arguments.TrainingJobDefinition.Environment",
        Proof.RECORDED,
        "https://github.com/aws/sagemaker-python-sdk/issues/3693",
    ),
    Member("Tuning", "Arguments.HyperParameterTuningJobConfig.RandomSeed", Proof.SDK, _TUNER),
    Member("Tuning", "Arguments.HyperParameterTuningJobConfig.StrategyConfig", Proof.SDK, _TUNER),
    Member(
        "Tuning",
        "Arguments.HyperParameterTuningJobConfig.ResourceLimits.MaxRuntimeInSeconds",
        Proof.SDK,
        _TUNER,
    ),
    Member("Tuning", "Arguments.TrainingJobDefinition.ResourceConfig.KeepAlivePeriodInSeconds", Proof.REQUEST, _TUNING),
    # The schema has the output's settings within the client's, where the service's request has them next to it.
    Member("EndpointConfig", "Arguments.AsyncInferenceConfig.OutputConfig", Proof.REQUEST, "CreateEndpointConfig"),
)


_NULL = "sagemaker-mlops/tests/integ/workflow: the SDK writes it into each definition, null without a configuration"
DEFINITION_MEMBERS = {
    "Version": (Proof.SCHEMA, "properties"),
    "Metadata": (Proof.SCHEMA, "properties"),
    "Parameters": (Proof.SCHEMA, "properties"),
    "Steps": (Proof.SCHEMA, "properties"),
    "PipelineExperimentConfig": (Proof.INTEGRATION_TEST, _NULL),
    "MlflowConfig": (Proof.INTEGRATION_TEST, _NULL),
}
"""Members of a definition itself, next to its steps, each with where it was proven."""


def check_members(definition: Definition) -> Iterator[str]:
    """Yield the members that no definition is known to have, its own and its steps'; unknown types are left out."""
    for name in definition.members:
        if name not in DEFINITION_MEMBERS:
            known = ", ".join(DEFINITION_MEMBERS)
            yield (
                f"{name}: no definition with this member is known, and CreatePipeline refuses unknown members; "
                f"use {known}"
            )
    for step in definition.steps:
        for path in _outside(step, _with_proven()):
            yield (
                f"step {step.name}: {path}: no {step.type} step with this member is known, and CreatePipeline refuses "
                "unknown members; leave it out"
            )


def unproven(definition: Definition) -> list[Member]:
    """List the members of a definition without proof that the service takes them, in the table's order."""
    outside = {(step.type, path) for step in definition.steps for path in _outside(step, schema_members())}
    return [member for member in PROVEN if member.proof in UNPROVEN and (member.type, member.path) in outside]


@functools.cache
def schema_members() -> Mapping[str, Any]:
    """Return the schema's members by step type, nested; what is below a member without members isn't described."""
    text = (files("medloop.definition") / "schema_members.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


@functools.cache
def _with_proven() -> Mapping[str, Any]:
    """The schema's members and those of PROVEN."""
    members = json.loads(json.dumps(schema_members()))
    for member in PROVEN:
        node = members[member.type]
        for name in member.path.split("."):
            node = node.setdefault(name, {})
    return dict(members)


def _outside(step: Step, members: Mapping[str, Any]) -> list[str]:
    known = members.get(step.type)
    if known is None:
        return []
    document = {name: value for name, value in step.document.items() if name != "Arguments"}
    arguments = step.arguments
    if step.type == CONDITION:  # its branches' steps are steps of the definition
        arguments = {name: value for name, value in arguments.items() if name not in BRANCHES}
    return list(dict.fromkeys(_unknown({**document, "Arguments": arguments}, known, "")))


def _unknown(value: Any, known: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yield the paths of a value's members that aren't among the known ones."""
    if isinstance(value, list):
        for element in value:
            yield from _unknown(element, known, path)
    elif isinstance(value, Mapping) and known and not is_expression(value):
        for name, member in value.items():
            inner = f"{path}.{name}" if path else str(name)
            if name not in known and ANY not in known:
                yield inner
            else:
                yield from _unknown(member, known.get(name, known.get(ANY)) or {}, inner)
