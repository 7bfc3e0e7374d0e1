"""registration.json: what a model version's metadata and card take from an evaluation, as short texts. Torch-free.

The register step reads it by name with `Std:JsonGet`. A file of its own: a property file may have 2 MB
(https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-quotas.html), which split.json of a large data set exceeds.
Texts alone, each within the limits of a metadata value, so that no registration fails after hours of training.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING

from medloop.metadata import MAX_VALUE, encode

if TYPE_CHECKING:
    from medloop.evaluation.record import Evaluation
    from medloop.imaging.split_record import SplitRecord
    from medloop.training.model_record import ModelRecord

REGISTRATION_FILE = "registration.json"
HYPERPARAMETERS = ("epochs", "batch_size", "learning_rate")
NONE = "none"
METADATA = (
    "score",
    "evidence",
    "margin_left",
    "champion",
    "test_uses",
    "split_train",
    "split_val",
    "split_test",
    "leakage",
    "quarantined",
    "data_digest",
    "code_digest",
    "network",
    "tracking_run",
    "evaluation_digest",
    "report_digest",
)
"""Names that the register step takes into the version's metadata too, as they are."""
CARD = ("score_name", "score_value", "best_name", "best_value", *HYPERPARAMETERS)
"""Names for the model card alone."""
FIELDS = (*METADATA, *CARD)
"""Every name in the file; all are there always, "none" where nothing is known."""


def registration(
    evaluation: Evaluation, split: SplitRecord, model: ModelRecord, *, record: str, report: str, test_uses: int | None
) -> dict[str, str]:
    """The file's content.

    Args:
        evaluation: What was found.
        split: Who is in which split.
        model: The candidate's model.json.
        record: The text of evaluation.json.
        report: The text of report.html.
        test_uses: How many candidates were scored on this test set.
    """
    score, gate = evaluation.score, evaluation.gate
    found = {
        "score": f"{score.name} {score.value:.4f}",
        "score_name": score.name,
        "score_value": _number(score.value),
        "evidence": "sufficient" if gate.sufficient else "insufficient",
        "margin_left": _number(gate.margin_left),
        "champion": gate.champion or NONE,
        "test_uses": NONE if test_uses is None else str(test_uses),
        **{f"split_{name}": _counts(split, name) for name in ("train", "val", "test")},
        "leakage": _fitting(split.leakage.note, split.leakage.status),
        "quarantined": str(len(split.quarantined)),
        "data_digest": split.data_digest,
        "code_digest": model.code_digest or NONE,
        "network": model.network.name,
        "best_name": model.best.metric,
        "best_value": _number(model.best.value),
        **{name: str(model.hyperparameters.get(name, NONE)) for name in HYPERPARAMETERS},
        "tracking_run": _tracking(model),
        "evaluation_digest": _digest(record),
        "report_digest": _digest(report),
    }
    return {name: encode(_fitting(found[name], NONE) or NONE) for name in FIELDS}


def to_json(content: dict[str, str]) -> str:
    """The file's text."""
    return json.dumps(content, indent=2) + "\n"


def _number(value: float) -> str:
    """A JSON number as text; the service's card knows no NaN."""
    return f"{value:.6f}" if math.isfinite(value) else "0"


def _counts(split: SplitRecord, name: str) -> str:
    counts = next((found for key, found in split.counts.items() if key == name), None)
    if counts is None:
        return NONE
    patients = "patients unknown" if split.identifiers == "none" else f"{counts.num_patients} patients"
    return f"{patients} {counts.num_cases} cases"


def _tracking(model: ModelRecord) -> str:
    """The runs on trackers, such as `mlflow:plane/0a1b`."""
    runs = [f"{run.tracker}:{run.experiment}/{run.run_id}" for run in model.tracking]
    return _fitting(" ".join(runs), f"{len(runs)} runs") if runs else NONE


def _fitting(text: str, otherwise: str) -> str:
    """The text, or the shorter one where it takes more characters of the service's than a value may have."""
    return text if len(encode(text)) <= MAX_VALUE else otherwise


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
