"""Registered versions with evidence that holds, on the local backend and on moto."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from medloop.commands.objects import digest_of
from medloop.definition.origin import Recorded, with_origin
from medloop.documents.card import REQUIRED_CARD_FIELDS
from medloop.local.state.home import BUCKET

EXECUTION = "arn:aws:sagemaker:us-east-1:000000000000:pipeline/classification/execution/abc123abc123"
STARTER = "trainer@lab"
COMMIT = "c0" * 20
DEFINITION = with_origin(
    json.dumps(
        {
            "Version": "2020-12-01",
            "Parameters": [],
            "Steps": [
                {"Name": "Train", "Type": "Training", "Arguments": {"Image": "train:1"}},
                {"Name": "Evaluate", "Type": "Processing", "Arguments": {"Image": "evaluate:1"}},
                {"Name": "Register", "Arguments": {"CustomerMetadataProperties": {"git_commit": COMMIT}}},
            ],
        }
    ),
    Recorded("classification", {}),
)
"""The definition of EXECUTION; what a checkout builds, too."""
PAGE = b"<!doctype html><html><body><main><h1>Report</h1><!-- medloop:registry --></main></body></html>"
WEIGHTS = b"weights"
"""model.tar.gz; no command unpacks it."""
EVALUATION: dict[str, Any] = {
    "version": 1,
    "task": "classification",
    "score": {"name": "macro_auroc", "value": 0.875, "interval": None},
    "gate": {"score": 0.875, "margin": 0.02, "margin_left": 0.0, "sufficient": 0, "num_patients": 2, "champion": ""},
    "multiclass_classification_metrics": {
        "accuracy": {"value": 0.75, "standard_deviation": 0.1},
        "confusion_matrix": {"axial": {"axial": 3}},
    },
    "subgroups": [],
    "data": {
        "split_digest": "da7a",
        "training_digest": "da7a",
        "code_digest": "c0de",
        "num_patients": 2,
        "num_cases": 20,
        "classes": {"axial": 20},
        "num_quarantined": 0,
        "leakage": {"status": "none", "num_patients": 0, "num_cases": 0, "note": "none"},
    },
    "notes": ["two test patients prove little"],
}
"""evaluation.json of version 1: all its fields, and none of those that version 2 added."""


def changed_evaluation(**changed: Any) -> dict[str, Any]:
    """EVALUATION with other members; of an object, with other members of it."""
    changed = {name: EVALUATION[name] | part if isinstance(part, dict) else part for name, part in changed.items()}
    return EVALUATION | changed


def identity(session: str, role: str = "Engineer") -> dict[str, Any]:
    """CreatedBy of something that a session of a role made."""
    arn = f"arn:aws:sts::000000000000:assumed-role/{role}/{session}"
    return {"IamIdentity": {"Arn": arn, "PrincipalId": f"AROA{role.upper()}:{session}"}}


def answer_executions(
    boto: Any, created_by: dict[str, Any] | None = None, definition: str | None = None, **described_too: Any
) -> None:
    """Let a session's client know one execution, EXECUTION, that STARTER (or another one) started, of a definition."""
    described = {
        "PipelineExecutionArn": EXECUTION,
        "PipelineExecutionStatus": "Succeeded",
        "CreationTime": datetime(2026, 3, 1, tzinfo=UTC),
        "CreatedBy": identity(STARTER) if created_by is None else created_by,
        **described_too,
    }
    stored = {"PipelineDefinition": DEFINITION if definition is None else definition}
    responses = {"DescribePipelineExecution": described, "DescribePipelineDefinitionForExecution": stored}
    for operation, response in responses.items():

        def respond(response: dict[str, Any] = response, **_: Any) -> tuple[Any, dict[str, Any]]:
            return SimpleNamespace(status_code=200), response

        event = f"before-call.sagemaker.{operation}"
        boto.events.unregister(event, unique_id=operation)
        boto.events.register(event, respond, unique_id=operation)


def keep_cards(boto: Any) -> None:
    """Let moto, which forgets model cards, tell one of every version."""

    def add(parsed: dict[str, Any], **_: Any) -> None:
        parsed["ModelCard"] = card()

    boto.events.register("after-call.sagemaker.DescribeModelPackage", add)


def card(**changed: str | None) -> dict[str, str]:
    """ModelCard with the five statements, of which some are changed, or left out (None)."""
    said = {name: f"the {name}" for name in REQUIRED_CARD_FIELDS} | changed
    details = {name: said[name] for name in REQUIRED_CARD_FIELDS[1:] if said[name] is not None}
    content = {
        "intended_uses": {"intended_uses": said["intended_use"]},
        "additional_information": {"custom_details": details},
    }
    return {"ModelCardStatus": "Draft", "ModelCardContent": json.dumps(content)}


def store_evidence(
    s3: Any, folder: str = "e", bucket: str = BUCKET, page: bytes = PAGE, **changed: Any
) -> dict[str, Any]:
    """Put a model, and then the evidence about it; CreateModelPackage's members that name them.

    Args:
        s3: Client.
        folder: Prefix of the three objects.
        bucket: Their bucket.
        page: report.html.
        changed: Members of evaluation.json.
    """
    record = json.dumps(changed_evaluation(**changed)).encode()
    for name, body in (("model.tar.gz", WEIGHTS), ("evaluation.json", record), ("report.html", page)):
        s3.put_object(Bucket=bucket, Key=f"{folder}/{name}", Body=body)
    folder_uri = f"s3://{bucket}/{folder}"
    statistics = {
        "ContentType": "application/json",
        "S3Uri": f"{folder_uri}/evaluation.json",
        "ContentDigest": digest_of(record),
    }
    return {
        "ModelMetrics": {"ModelQuality": {"Statistics": statistics}},
        "ModelCard": card(),
        "CustomerMetadataProperties": {
            "report_digest": digest_of(page),
            "artefact_digest": digest_of(WEIGHTS),
            "image": "image",
            "champion": "none",
            "execution": EXECUTION,
        },
        "InferenceSpecification": {
            "Containers": [{"Image": "image", "ModelDataUrl": f"{folder_uri}/model.tar.gz"}],
            "SupportedContentTypes": ["image/png"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
    }


def register(boto: Any, count: int = 1, *, metadata: dict[str, str] | None = None, **more: Any) -> list[str]:
    """Register versions with evidence in the group `g`, each of a model of its own; returns their ARNs."""
    sagemaker, s3 = boto.client("sagemaker"), boto.client("s3")
    if not sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"]:
        sagemaker.create_model_package_group(ModelPackageGroupName="g")
    first = len(sagemaker.list_model_packages(ModelPackageGroupName="g", MaxResults=100)["ModelPackageSummaryList"])
    arns = []
    for number in range(first, first + count):
        request = {"ModelPackageGroupName": "g", "ModelApprovalStatus": "PendingManualApproval"}
        request |= store_evidence(s3, f"e{number}") | more
        request["CustomerMetadataProperties"] = request["CustomerMetadataProperties"] | (metadata or {})
        arns.append(str(sagemaker.create_model_package(**request)["ModelPackageArn"]))
    return arns
