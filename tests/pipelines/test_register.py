"""Register's request as the run fills it in: the model card, the metadata, the evidence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from medloop.cloud.sessions import Target
from medloop.commands.registry.comparing import PROVENANCE
from medloop.definition.read import read_definition
from medloop.evaluation.registration import FIELDS, METADATA
from medloop.local.expressions import Scope, resolve
from medloop.local.requests import check_request
from medloop.metadata import MAX_ENTRIES, encode
from medloop.settings import resolve as settle
from tests.pipelines.conftest import Built

EVIDENCE = {name: f"the {name}" for name in FIELDS} | {
    "score_name": "macro_auroc",
    "score_value": "0.875000",
    "margin_left": "-0.012500",
    "best_value": "0.900000",
    "evaluation_digest": f"sha256:{'e' * 64}",
    "leakage": encode('found: 2 patients, "twice" \\ {here}'),
}


def requested(text: str) -> dict[str, Any]:
    """The CreateModelPackage request of a definition whose execution found EVIDENCE."""
    definition = read_definition(text)
    (step,) = [step for step in definition.steps if step.type == "RegisterModel"]
    outputs = [
        {"OutputName": name, "S3Output": {"S3Uri": f"s3://b/{name}"}} for name in ("split", "test", "evaluation")
    ]
    job = {"ProcessingOutputConfig": {"Outputs": outputs}}
    parameters = {parameter.name: parameter.default for parameter in definition.parameters}
    scope = Scope(
        parameters=parameters | {"InputData": "s3://b/data/", "DataVersion": "v1"},
        execution={"PipelineExecutionArn": "arn:aws:sagemaker:us-east-1:0:pipeline/p/execution/e"},
        read=lambda uri: json.dumps(EVIDENCE).encode(),
        steps={
            "Split": job,
            "Evaluate": job,
            "Train": {"ModelArtifacts": {"S3ModelArtifacts": "s3://b/model.tar.gz"}},
        },
        property_files={("Evaluate", "registration"): "s3://b/evaluation/registration.json"},
    )
    return dict(resolve(step.arguments, scope))


def test_request_is_one_that_the_service_takes(built: Built) -> None:
    """Filled in, it is a CreateModelPackage request, with evidence and room for an approver's decisions."""
    request = requested(built.text)
    check_request("CreateModelPackage", request)
    statistics = request["ModelMetrics"]["ModelQuality"]["Statistics"]
    assert statistics["S3Uri"] == "s3://b/evaluation/evaluation.json"
    assert statistics["ContentDigest"] == EVIDENCE["evaluation_digest"]
    metadata = request["CustomerMetadataProperties"]
    assert {name: metadata.get(name) for name in METADATA} == {name: EVIDENCE[name] for name in METADATA}
    assert set(PROVENANCE.values()) <= set(metadata)
    assert len(metadata) <= MAX_ENTRIES - 20
    specification = request["InferenceSpecification"]
    assert "medloop-serve:" in specification["Containers"][0]["Image"]
    assert specification["SupportedTransformInstanceTypes"]


def test_card_follows_sagemaker_s_schema(built: Built) -> None:
    """The content is JSON in which the SDK's model of the schema knows every member, with the run's numbers."""
    from sagemaker.core.shapes.model_card_shapes import ModelCardContent

    card = requested(built.text)["ModelCard"]
    assert card["ModelCardStatus"] == "Draft"
    content = json.loads(card["ModelCardContent"])
    known = ModelCardContent.model_validate(content).model_dump(mode="json", exclude_unset=True)
    assert known == content
    (test_set,) = content["evaluation_details"]
    values = {metric["name"]: metric["value"] for metric in test_set["metric_groups"][0]["metric_data"]}
    assert values == {"macro_auroc": 0.875, "margin left against the champion": -0.0125}


@pytest.mark.parametrize("text", ['"quoted" \\ and\nnew lines', "ä{b}", "x" * 2048])
def test_a_person_s_words_reach_the_card_unchanged(target: Target, text: str) -> None:
    """Whatever the settings say, the card is valid JSON that holds it."""
    resolved = settle("classification")
    registration = resolved.settings.registration.model_copy(update={"intended_use": text})  # type: ignore[attr-defined]
    settings = resolved.settings.model_copy(update={"registration": registration})
    content = json.loads(requested(resolved.spec.build(settings, target).definition())["ModelCard"]["ModelCardContent"])
    assert content["intended_uses"]["intended_uses"] == text
