"""registration.json: texts that the registry takes, whatever the evaluation holds."""

from __future__ import annotations

import hashlib
import re

import pytest

from medloop.definition.requests import service_model
from medloop.evaluation.record import Data, Evaluation, Gate, Leakage, Score
from medloop.evaluation.registration import FIELDS, registration
from medloop.imaging.split_record import Leakage as SplitLeakage
from medloop.imaging.split_record import SplitCounts, SplitRecord
from medloop.metadata import MAX_VALUE, decode, encode, pieces
from medloop.training.model_record import ModelRecord, TrackingRun
from tests.unit.evaluation.worlds import model_record

VALUE = re.compile(r"[\w _.:/=+\-@]{1,256}")
"""What the service takes as a value, CustomerMetadataValue."""


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
            "leakage": SplitLeakage(status="none", num_patients=0, note=note),
            "data_digest": "d" * 64,
        }
    )


def evaluation() -> Evaluation:
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
            leakage=Leakage(status="none", num_patients=0, num_cases=0, note=""),
        ),
        notes=[],
    )


def content(split: SplitRecord, model: ModelRecord) -> dict[str, str]:
    """registration.json's content."""
    return registration(evaluation(), split, model, record="{}", report="<html>", test_uses=3)


def test_counts_leakage_score_and_digests_are_told() -> None:
    """The texts that an approver reads."""
    found = content(split_record(), model_record("classification", ["a", "b"]))
    assert tuple(found) == FIELDS
    assert found["split_train"] == "8 patients 80 cases"
    assert found["leakage"] == "none: every patient is in one split"
    assert (found["score"], found["score_value"]) == ("macro_auroc 0.8750", "0.875000")
    assert (found["evidence"], found["test_uses"], found["champion"]) == ("insufficient", "3", "none")
    assert found["evaluation_digest"] == f"sha256:{hashlib.sha256(b'{}').hexdigest()}"


def test_unknown_patients_are_not_counted() -> None:
    """Without identifiers every file is its own patient: their number is not told."""
    found = content(split_record("none", "unknown: no patient identifiers"), model_record("classification", ["a"]))
    assert found["split_test"] == "patients unknown 20 cases"
    assert found["leakage"] == "unknown: no patient identifiers"


@pytest.mark.parametrize("text", ['he said "no"; 50 % of {all}\\', "é" * 300, "\U0001f600" * 200, ""])
def test_no_text_breaks_the_service_s_limits(text: str) -> None:
    """Hostile notes, trackers and hyperparameters: every value stays within the set and the length."""
    model = model_record("classification", ["a"])
    run = TrackingRun(tracker="mlflow", kind="sqlite", experiment=text, run_id="0a1b")
    model = model.model_copy(update={"tracking": [run], "hyperparameters": {"learning_rate": text}})
    for value in content(split_record(note=text or "-"), model).values():
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
