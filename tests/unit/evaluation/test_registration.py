"""registration.json: texts that the registry accepts, for any evaluation."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pytest

from medloop.definition.requests import service_model
from medloop.documents.evaluation import (
    ClassificationMetrics,
    Data,
    Evaluation,
    Gate,
    Interval,
    Score,
    Statistic,
)
from medloop.documents.leakage import Leakage
from medloop.documents.metadata import MAX_VALUE, decode, encode, pieces
from medloop.documents.model import ModelRecord, TrackingRun
from medloop.documents.package_card import card_problem
from medloop.documents.registration import CARD, MAX_CLASSES, METADATA, METRIC_GROUPS
from medloop.documents.split import SplitCounts, SplitRecord
from medloop.evaluation.registration import metric_groups, registration
from tests.unit.evaluation.worlds import model_record

VALUE = re.compile(r"[\w _.:/=+\-@]{1,256}")
"""The service's pattern of a value, CustomerMetadataValue."""


def split_record(identifiers: str = "patients.csv", note: str = "none: every patient is in one split") -> SplitRecord:
    """A split of 12 patients."""
    return SplitRecord.model_validate(
        {
            "task": "classification",
            "seed": 0,
            "classes": ["a", "b"],
            "presplit": False,
            "identifiers": identifiers,
            "patients": {},
            "counts": {
                name: SplitCounts(num_patients=n, num_cases=10 * n, classes={})
                for name, n in {"train": 8, "val": 2, "test": 2}.items()
            },
            "leakage": Leakage(status="none", num_patients=0, note=note),
            "data_digest": "d" * 64,
        }
    )


def evaluation(leakage: str = "") -> Evaluation:
    """A score of 0.875 that nothing was compared with."""
    return Evaluation(
        task="classification",
        score=Score(name="macro_auroc", value=0.875, interval=None),
        gate=Gate(score=0.875, margin=0.02, margin_left=-0.0125, sufficient=0, num_patients=2, champion=""),
        subgroups=[],
        data=Data(
            split_digest="d" * 64,
            training_digest="d" * 64,
            code_digest="c" * 40,
            num_patients=2,
            num_cases=20,
            classes={},
            num_quarantined=0,
            leakage=Leakage(status="none", num_patients=0, num_cases=0, note=leakage),
        ),
        notes=[],
    )


def content(split: SplitRecord, model: ModelRecord) -> dict[str, str]:
    """registration.json's content."""
    return registration(evaluation(split.leakage.note), split, model, record="{}", report="<html>", test_uses=3)


def test_counts_leakage_score_and_digests_are_registered() -> None:
    """The texts that an approver reads."""
    card = content(split_record(), model_record("classification", ["a", "b"]))
    assert tuple(card) == (*METADATA, *CARD, METRIC_GROUPS)
    assert card["split_train"] == "8 patients 80 cases"
    assert card["leakage"] == "none: every patient is in one split"
    assert card["score"] == "macro_auroc 0.8750"
    assert (card["evidence"], card["test_uses"], card["champion"]) == ("insufficient", "3", "none")
    assert card["input"] == "grey 32 x 32 pixels - 16-bit values scaled by 0..65535"
    assert card["evaluation_digest"] == f"sha256:{hashlib.sha256(b'{}').hexdigest()}"


def test_unknown_patients_are_not_counted() -> None:
    """Without identifiers every file is its own patient: their number is unknown."""
    card = content(split_record("none", "unknown: no patient identifiers"), model_record("classification", ["a"]))
    assert card["split_test"] == "patients unknown 20 cases"
    assert card["leakage"] == "unknown: no patient identifiers"


@pytest.mark.parametrize("text", ['he said "no"; 50 % of {all}\\', "é" * 300, "\U0001f600" * 200, ""])
def test_no_text_breaks_the_service_s_limits(text: str) -> None:
    """Hostile notes, trackers and hyperparameters: every value stays within the set and the length."""
    model = model_record("classification", ["a"])
    run = TrackingRun(tracker="mlflow", kind="sqlite", experiment=text, run_id="0a1b")
    model = model.model_copy(update={"tracking": [run], "hyperparameters": {"learning_rate": text}})
    for value in (
        value for name, value in content(split_record(note=text or "-"), model).items() if name != METRIC_GROUPS
    ):
        assert VALUE.fullmatch(value), value


def test_limits_are_the_service_s_own() -> None:
    """256 characters, as botocore's model has it."""
    assert service_model().shape_for("CustomerMetadataValue").metadata["max"] == MAX_VALUE


@pytest.mark.parametrize("text", ["", "plain words", "a=b", "100 %, „alle“ (n=3)", "é\n\t\0", "\U0001f600" * 300])
def test_encoding_gives_the_text_back(text: str) -> None:
    """Whole, and in pieces of 256 characters."""
    assert decode(encode(text)) == text
    parts = pieces(text)
    assert all(len(part) <= MAX_VALUE for part in parts)
    assert "".join(decode(part) for part in parts) == text


def groups(evaluation: Evaluation) -> dict[str, list[dict[str, Any]]]:
    """The card's metrics by group, which the SDK's model of the schema must know whole."""
    from sagemaker.core.shapes.model_card_shapes import EvaluationDetailsItem

    text = metric_groups(evaluation)
    assert text.isascii()
    document = {"name": "e", "metric_groups": json.loads(text)}
    assert card_problem(json.dumps({"evaluation_details": [document]})) is None
    assert EvaluationDetailsItem.model_validate(document).model_dump(mode="json", exclude_unset=True) == document
    return {group["name"]: group["metric_data"] for group in document["metric_groups"]}


def rich(classes: list[str]) -> Evaluation:
    """An evaluation with an interval, a statistic by class and a confusion matrix."""
    metrics = ClassificationMetrics.model_validate({"confusion_matrix": {a: {b: 1 for b in classes} for a in classes}})
    statistics = [Statistic(name="auroc", class_name=name, value=0.5, num_patients=9, num_cases=9) for name in classes]
    interval = Interval(lower=0.8, upper=0.95, level=0.95, method="m")
    changed = {
        "score": Score(name="macro_auroc", value=0.875, interval=interval),
        "statistics": [*statistics, Statistic(name="auroc", value=0.5, num_patients=9, num_cases=9)],
        "multiclass_classification_metrics": metrics,
    }
    return evaluation().model_copy(update=changed)


@pytest.mark.slow
def test_the_card_has_score_interval_classes_and_confusion() -> None:
    """Numbers, a bar for each class, and the matrix: the schema's own types, for any name of a class."""
    metric_groups = groups(rich(["a", 'he said "no" \\ {ü}']))
    numbers = {metric["name"]: metric["value"] for metric in metric_groups["gate"]}
    assert (numbers["macro_auroc"], numbers["macro_auroc lower"], numbers["macro_auroc upper"]) == (0.875, 0.8, 0.95)
    assert (numbers["margin left against the champion"], numbers["test patients"]) == (-0.0125, 2)
    (bars,) = metric_groups["by class"]
    assert (bars["type"], bars["x_axis_name"], bars["value"]) == ("bar_chart", ["a", 'he said "no" \\ {ü}'], [0.5, 0.5])
    (matrix,) = metric_groups["confusion matrix"]
    assert (matrix["type"], matrix["value"]) == ("matrix", [[1, 1], [1, 1]])


@pytest.mark.parametrize(
    "names",
    [["x" * 63 + "a", "x" * 63 + "b"], ["ü" * 64, "y"], ["\U0001f600" * 80 + str(n) for n in range(5)]],
)
def test_long_classes_are_shortened_on_axes_and_stay_distinct(names: list[str]) -> None:
    """63 characters at most, as the schema says; a name that fits is unchanged."""
    metric_groups = groups(rich(names))
    (bars,), (matrix,) = metric_groups["by class"], metric_groups["confusion matrix"]
    for axis in (bars["x_axis_name"], matrix["x_axis_name"], matrix["y_axis_name"]):
        assert len(set(axis)) == len(names)
        assert [name for name in names if len(name) <= 63] == [name for name in axis if name in names]


def test_unreadable_charts_are_omitted() -> None:
    """Many classes, or names whose JSON is long: the numbers stay, and the card keeps within the service's size."""
    assert set(groups(rich([f"c{number}" for number in range(MAX_CLASSES + 1)]))) == {"gate"}
    assert set(groups(rich(["\U0001f600" * 60 + str(n) for n in range(MAX_CLASSES)]))) == {"gate"}
