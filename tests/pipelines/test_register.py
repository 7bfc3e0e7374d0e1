"""Register's request as the run fills it in: the model card, the metadata, the evidence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from medloop.cloud.target import Target
from medloop.commands.registry.card import card_rows
from medloop.commands.registry.comparison import PROVENANCE
from medloop.data_card import CardFields
from medloop.definition.read import read_definition
from medloop.documents.artefact import changed_image, environment_of
from medloop.documents.card import NOT_FOR_APPROVAL, REQUIRED_CARD_FIELDS, read_card, required_fields_of
from medloop.documents.metadata import MAX_ENTRIES, encode
from medloop.documents.package_card import card_problem
from medloop.documents.registration import CARD, METADATA, METRIC_GROUPS
from medloop.errors import SettingError
from medloop.local.engine.expressions import Scope, resolve
from medloop.local.requests import check_limits, check_request
from medloop.presets import load_presets
from medloop.settings import resolve as settle
from tests.pipelines.conftest import Built

NUMBERS = {"macro_auroc": 0.875, "a=3B": 1.0}
GATE = {"name": "gate", "metric_data": [{"name": n, "type": "number", "value": value} for n, value in NUMBERS.items()]}
EVIDENCE = {name: f"the {name}" for name in (*METADATA, *CARD)} | {
    METRIC_GROUPS: json.dumps([GATE]),
    "margin_left": "-0.012500",
    "best_value": "0.900000",
    "evaluation_digest": f"sha256:{'e' * 64}",
    "epochs": encode("50; then more"),
    "leakage": encode('found: 2 patients, "twice" \\ {here}'),
}


def requested(text: str) -> dict[str, Any]:
    """The CreateModelPackage request of a definition whose execution found EVIDENCE."""
    definition = read_definition(text)
    (step,) = [step for step in definition.steps if step.type == "RegisterModel"]
    outputs = [
        {"OutputName": name, "S3Output": {"S3Uri": f"s3://b/{name}"}} for name in ("split", "test", "evaluation")
    ]
    job = {"ProcessingOutputConfig": {"Outputs": outputs}, "ProcessingJobArn": "arn:job"}
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
    (container,) = specification["Containers"]
    assert "medloop-serve:" in container["Image"]
    assert metadata["image"] == container["Image"]
    assert container["Environment"] == {"MEDLOOP_MODEL_SHA256": EVIDENCE["model_digest"]}
    assert changed_image(request) == ""
    assert environment_of(request) == container["Environment"]
    assert specification["SupportedTransformInstanceTypes"]


def test_card_follows_sagemaker_s_schema(built: Built) -> None:
    """The content is JSON in which the SDK's model of the schema knows every member, with the run's numbers."""
    from sagemaker.core.shapes.model_card_shapes import ModelCardContent

    card = requested(built.text)["ModelCard"]
    assert card["ModelCardStatus"] == "Draft"
    assert card_problem(card["ModelCardContent"]) is None
    content = json.loads(card["ModelCardContent"])
    known = ModelCardContent.model_validate(content).model_dump(mode="json", exclude_unset=True)
    assert known == content
    (test_set,) = content["evaluation_details"]
    assert test_set["metric_groups"] == [GATE]
    assert test_set["metadata"]["report"] == "s3://b/evaluation/report.html"
    assert test_set["evaluation_job_arn"] == "arn:job"


def test_the_card_is_read_as_it_was_meant(built: Built) -> None:
    """Texts of the run are decoded; the metrics, whose names may look encoded, are as they are in the JSON."""
    card = read_card({"ModelCard": requested(built.text)["ModelCard"]})
    assert card is not None
    (test_set,) = card["content"]["evaluation_details"]
    assert test_set["metadata"]["leakage"] == 'found: 2 patients, "twice" \\ {here}'
    assert test_set["metric_groups"] == [GATE]
    rows = {str(value) for _, _, value in card_rows(card["content"])}
    assert 'found: 2 patients, "twice" \\ {here}' in rows
    assert not any("=22" in row for row in rows)
    training = card["content"]["training_details"]["training_job_details"]
    assert {"name": "epochs", "value": "50; then more"} in training["user_provided_hyper_parameters"]


@pytest.mark.slow
def test_a_full_card_is_one_that_the_service_takes(target: Target) -> None:
    """Every field has its maximum length; none is lost, and the reader joins what had to be split."""
    texts = {
        name: f"{name} \u2028 {'x' * 2048}"[:limit]
        for name in CardFields.model_fields
        for limit in (1024 if name == "owner" else 2048,)
        if name != "risk_rating"
    }
    request = registered(target, **texts)
    check_limits("CreateModelPackage", request)
    text = request["ModelCard"]["ModelCardContent"]
    assert card_problem(text) is None
    assert len(text.splitlines()) == 1
    card = read_card(request)
    assert card is not None
    shown = {str(value) for _, _, value in card_rows(card["content"])}
    assert set(texts.values()) <= shown
    assert required_fields_of(json.loads(text)) == {name: texts[name] for name in REQUIRED_CARD_FIELDS}
    assert {"the network", "the input"} <= shown


@pytest.mark.slow
@pytest.mark.parametrize("text", ['"quoted" \\ and\nnew lines', "ä{b}", "x" * 2048])
def test_a_person_s_words_reach_the_card_unchanged(target: Target, text: str) -> None:
    """The card is valid JSON and contains any text of the settings."""
    resolved = settle("classification")
    registration = resolved.settings.registration.model_copy(update={"intended_use": text})  # type: ignore[attr-defined]
    settings = resolved.settings.model_copy(update={"registration": registration})
    content = json.loads(requested(resolved.spec.build(settings, target).definition())["ModelCard"]["ModelCardContent"])
    assert content["intended_uses"]["intended_uses"] == text


def registered(target: Target, **said: str) -> dict[str, Any]:
    """The request of a classification whose registration settings say this."""
    lines = [f"registration.{name}={json.dumps(text)}" for name, text in said.items()]
    resolved = settle("classification", None, lines)
    return requested(resolved.spec.build(resolved.settings, target).definition())


@pytest.mark.slow
def test_without_statements_a_version_begins_as_rejected(target: Target) -> None:
    """The requested status has no effect, the metadata names the missing fields; with all five the start decides."""
    four = {name: "said" for name in REQUIRED_CARD_FIELDS if name != "population"}
    request = registered(target, **four)
    check_request("CreateModelPackage", request)
    assert request["ModelApprovalStatus"] == "Rejected"
    assert request["CustomerMetadataProperties"][NOT_FOR_APPROVAL] == "population"
    request = registered(target, **four, population="adults")
    assert request["ModelApprovalStatus"] == "PendingManualApproval"
    assert NOT_FOR_APPROVAL not in request["CustomerMetadataProperties"]
    assert required_fields_of(json.loads(request["ModelCard"]["ModelCardContent"])) == four | {"population": "adults"}


@pytest.mark.slow
def test_nothing_is_registered_as_approved_without_statements(target: Target) -> None:
    """The build refuses it and names the settings; so does a start that requests a status, which has no effect."""
    with pytest.raises(SettingError, match=r"registration.intended_use, registration.population, .* not stated"):
        registered(target, approval_status="Approved")
    with pytest.raises(SettingError, match=r"ApprovalStatus: has no effect, registration.intended_use \(not stated\)"):
        settle("classification", None, (), ["ApprovalStatus=Approved"])


@pytest.mark.parametrize("name", [n for n, preset in load_presets().items() if preset.lab or "smoke" in n])
def test_labs_and_smoke_runs_state_what_they_are(name: str) -> None:
    """All five, so that their versions wait for a person."""
    resolved = settle(load_presets()[name].pipeline, name)
    assert resolved.facts.missing_card_fields == ()
