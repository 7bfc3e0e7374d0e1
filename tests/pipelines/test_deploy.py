"""Deployment in the pipeline: what is built, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from medloop.cloud.images import image_uri
from medloop.cloud.target import Target
from medloop.cloud.upsert import build_definition
from medloop.definition.read import Definition, read_definition
from medloop.errors import SettingError
from medloop.settings import resolve

pytestmark = pytest.mark.slow
PIPELINE = "deploy.mode=pipeline"


def built_with(target: Target, name: str, sets: Sequence[str]) -> Definition:
    """A definition with some settings; it breaks no rule of the service."""
    return read_definition(build_definition(target, resolve(name, None, sets)))


def test_by_default_only_an_approver_deploys(target: Target) -> None:
    """Never two deployers for one endpoint."""
    types = {step.type for step in built_with(target, "segmentation", []).steps}
    assert types.isdisjoint({"Model", "EndpointConfig", "Endpoint"})


def test_what_passes_the_gate_goes_to_the_endpoint(target: Target) -> None:
    """Three steps in the Gate's branch: the candidate's artefact on the serving image, on the endpoint EndpointName."""
    definition = built_with(target, "segmentation", [PIPELINE])
    model, config = definition.step("Model"), definition.step("EndpointConfig")
    endpoint = definition.step("Endpoint")
    assert {step.branch for step in (model, config, endpoint)} == {("Gate", "yes")}
    container = model.arguments["PrimaryContainer"]
    assert container["ModelDataUrl"] == {"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"}
    assert container["Image"] == image_uri(target, "serve")
    digest = container["Environment"]["MEDLOOP_MODEL_SHA256"]["Std:JsonGet"]
    assert digest["Path"] == "model_digest"
    assert digest["PropertyFile"] == {"Get": "Steps.Evaluate.PropertyFiles.registration"}
    assert config.arguments["ProductionVariants"][0]["ModelName"] == {"Get": "Steps.Model.ModelName"}
    assert endpoint.arguments["EndpointName"] == {"Get": "Parameters.EndpointName"}
    assert endpoint.arguments["EndpointConfigName"] == {"Get": "Steps.EndpointConfig.EndpointConfigName"}


def test_configurations_of_two_executions_have_two_names(target: Target) -> None:
    """The name holds the execution's id, so that a second execution's differs from the first's; two builds agree."""
    first, second = (built_with(target, "classification", [PIPELINE]) for _ in range(2))
    name = first.step("EndpointConfig").arguments["EndpointConfigName"]
    assert {"Get": "Execution.PipelineExecutionId"} in name["Std:Join"]["Values"]
    assert [step.document for step in first.steps] == [step.document for step in second.steps]


def test_kinds_of_hosting_reach_the_configuration(target: Target) -> None:
    """Serverless has memory, async has places in S3; VPC, isolation and keys are those of all jobs."""
    serverless = built_with(target, "classification", [PIPELINE, "deploy.kind=serverless", "deploy.memory_mb=2048"])
    (variant,) = serverless.step("EndpointConfig").arguments["ProductionVariants"]
    assert variant["ServerlessConfig"] == {"MemorySizeInMB": 2048, "MaxConcurrency": 5}
    assert "InstanceType" not in variant
    key = "11111111-2222-3333-4444-555555555555"
    sets = ["deploy.kind=async", f"network.kms_key={key}", "network.isolation=true"]
    queued = built_with(target, "classification", [PIPELINE, *sets])
    config = queued.step("EndpointConfig").arguments
    assert config["KmsKeyId"] == config["AsyncInferenceConfig"]["OutputConfig"]["KmsKeyId"] == key
    assert queued.step("Model").arguments["EnableNetworkIsolation"] is True


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["deploy.kind=serverless", "deploy.memory_mb=3000"], "memory_mb"),
        (["deploy.kind=serverless", "deploy.instance_count=2"], "instance_count"),
        (["deploy.kind=serverless", "network.isolation=true"], "serverless"),
        (["deploy.endpoint_name=a_b"], "endpoint_name"),
        (["deploy.instance_type=ml.toaster.large"], "InstanceType"),
    ],
)
def test_what_the_service_would_refuse_is_refused(target: Target, sets: list[str], message: str) -> None:
    """At build, by the setting's name."""
    with pytest.raises(SettingError, match=message):
        built_with(target, "classification", [PIPELINE, *sets])
