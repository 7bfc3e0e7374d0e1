"""registration.json: the short texts of an evaluation for a model version's metadata and card. Torch-free.

All values are texts within the limits of a metadata value, so that no registration fails after hours of training,
except `metric_groups`, the JSON of the card's metrics, which grows with the number of classes.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

from medloop.documents.artefact import ARTEFACT_DIGEST, MODEL_DIGEST
from medloop.documents.card_limits import MAX_AXIS_NAME, MAX_PARAMETER
from medloop.documents.champion import CLASSES_DIGEST, digest_of_classes
from medloop.documents.metadata import MAX_VALUE, encode
from medloop.documents.registration import (
    CARD,
    HYPERPARAMETERS,
    MAX_CARD_METRICS,
    MAX_CLASSES,
    METADATA,
    METRIC_GROUPS,
    NONE,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medloop.documents.evaluation import Evaluation, Statistic
    from medloop.documents.model import ModelRecord
    from medloop.documents.split import SplitRecord


def registration(
    evaluation: Evaluation, split: SplitRecord, model: ModelRecord, *, record: str, report: str, test_uses: int | None
) -> dict[str, str]:
    """Make the file's content.

    Args:
        evaluation: The record of evaluation.json.
        split: The record of split.json.
        model: The candidate's model.json.
        record: The text of evaluation.json.
        report: The text of report.html.
        test_uses: Number of candidates that were scored on this test set.
    """
    score, gate = evaluation.score, evaluation.gate
    values = {
        "score": f"{score.name} {score.value:.4f}",
        "evidence": "sufficient" if gate.sufficient else "insufficient",
        "margin_left": _number(gate.margin_left),
        "champion": gate.champion or NONE,
        "test_uses": NONE if test_uses is None else str(test_uses),
        **{f"split_{name}": _counts(split, name) for name in ("train", "val", "test")},
        "leakage": _fitting(evaluation.data.leakage.note, evaluation.data.leakage.status),
        "quarantined": str(len(split.quarantined)),
        "data_digest": split.data_digest,
        CLASSES_DIGEST: digest_of_classes(model.classes),
        "code_digest": model.code_digest or NONE,
        "network": model.network.name,
        "input": model.preprocessing.text,
        "best_name": model.best.metric,
        "best_value": _number(model.best.value),
        **{name: str(model.hyperparameters.get(name, NONE)) for name in HYPERPARAMETERS},
        "tracking_run": _tracking(model),
        "evaluation_digest": _digest(record),
        "report_digest": _digest(report),
        ARTEFACT_DIGEST: evaluation.data.artefact_digest or NONE,
        MODEL_DIGEST: evaluation.data.model_digest or NONE,
    }
    texts = {name: encode(_fitting(values[name], NONE) or NONE) for name in METADATA}
    texts |= {name: encode(_fitting(values[name], NONE, MAX_PARAMETER) or NONE) for name in CARD}
    return texts | {METRIC_GROUPS: metric_groups(evaluation)}


def metric_groups(evaluation: Evaluation) -> str:
    """Return the evaluation as a model card's metrics: numbers, a bar chart for each statistic, confusion matrix.

    In the schema's own types, as JSON of ASCII characters. Charts with too many classes to be readable are left out;
    the report has them all.
    https://docs.aws.amazon.com/sagemaker/latest/dg/model-cards-create.html#model-cards-json-schema
    """
    groups = [_group("gate", _numbers(evaluation)), _group("by class", _bar_charts(evaluation.statistics))]
    if evaluation.multiclass_classification_metrics is not None:
        confusion = evaluation.multiclass_classification_metrics.confusion_matrix
        groups.append(_group("confusion matrix", _matrix(confusion)))
    text = json.dumps([group for group in groups if group["metric_data"]])
    return text if len(text) <= MAX_CARD_METRICS else json.dumps(groups[:1])


def _group(name: str, metrics: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": name, "metric_data": metrics}


def _numbers(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return the main score, its interval if it has one, and the numbers that the gate compared."""
    score, data = evaluation.score, evaluation.data
    numbers: dict[str, tuple[float | None, str]] = {score.name: (score.value, "")}
    if score.interval is not None:
        method = f"95 % interval over patients: {score.interval.method}"
        numbers |= {f"{score.name} lower": (score.interval.lower, method)}
        numbers |= {f"{score.name} upper": (score.interval.upper, method)}
    numbers |= {"margin left against the champion": (evaluation.gate.margin_left, evaluation.gate.verdict)}
    numbers |= {"test patients": (data.num_patients, ""), "test cases": (data.num_cases, "")}
    return [
        {"name": name, "type": "number", "value": value, **({"notes": notes} if notes else {})}
        for name, (value, notes) in numbers.items()
        if value is not None
    ]


def _bar_charts(statistics: list[Statistic]) -> list[dict[str, Any]]:
    by_name: dict[str, list[Statistic]] = {}
    for statistic in statistics:
        if statistic.class_name and statistic.value is not None:
            by_name.setdefault(statistic.name, []).append(statistic)
    return [
        {
            "name": name,
            "type": "bar_chart",
            "value": [statistic.value for statistic in by_class],
            "x_axis_name": axis_names([statistic.class_name or "" for statistic in by_class]),
            "y_axis_name": f"{name} in {by_class[0].unit}" if by_class[0].unit else name,
        }
        for name, by_class in by_name.items()
        if len(by_class) <= MAX_CLASSES
    ]


def _matrix(confusion: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    """Rows are true classes, columns predicted ones."""
    classes = list(confusion)
    if not 0 < len(classes) <= MAX_CLASSES:
        return []
    return [
        {
            "name": "cases by true and predicted class",
            "type": "matrix",
            "value": [[confusion[true].get(predicted, 0) for predicted in classes] for true in classes],
            "x_axis_name": axis_names(classes),
            "y_axis_name": axis_names(classes),
        }
    ]


def axis_names(classes: Sequence[str]) -> list[str]:
    """Return classes as names of a chart's axis, which have 63 characters at most.

    A longer name is cut and ends in `...` and its position in the list, so that no two are equal; evaluation.json and
    the report have it whole.
    """
    return [
        name if len(name) <= MAX_AXIS_NAME else name[: MAX_AXIS_NAME - len(f"...{number}")] + f"...{number}"
        for number, name in enumerate(classes, start=1)
    ]


def _number(value: float) -> str:
    """Write a JSON number; the service's card has no NaN."""
    return f"{value:.6f}" if math.isfinite(value) else "0"


def _counts(split: SplitRecord, name: str) -> str:
    counts = next((split_counts for key, split_counts in split.counts.items() if key == name), None)
    if counts is None:
        return NONE
    patients = "patients unknown" if split.identifiers == "none" else f"{counts.num_patients} patients"
    return f"{patients} {counts.num_cases} cases"


def _tracking(model: ModelRecord) -> str:
    """Return the runs on trackers, such as `mlflow:plane/0a1b`."""
    runs = [f"{run.tracker}:{run.experiment}/{run.run_id}" for run in model.tracking]
    return _fitting(" ".join(runs), f"{len(runs)} runs") if runs else NONE


def _fitting(text: str, otherwise: str, limit: int = MAX_VALUE) -> str:
    """Return the text, or the shorter one if the encoded text is longer than a value may be."""
    return text if len(encode(text)) <= limit else otherwise


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
