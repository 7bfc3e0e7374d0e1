"""`medloop models compare` against an account of the test's."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from medloop.documents.leakage import Leakage
from medloop.documents.split import Case, Patient, SplitRecord
from tests.unit.cli.versions import changed_evaluation


def split(test: str = "p2", digest: str = "d", test_digest: str = "") -> bytes:
    """split.json with one test patient."""
    record = SplitRecord(
        task="classification",
        seed=0,
        classes=["a"],
        presplit=False,
        identifiers="patients.csv",
        patients={test: Patient(stratum="a", cases=[Case(path=f"a/{test}.png", split="test", classes=["a"])])},
        counts={},
        leakage=Leakage(status="none", num_patients=0, note=""),
        test_digest=test_digest,
        data_digest=digest,
    )
    return record.model_dump_json().encode()


@pytest.fixture
def pair(account: Any, finished: str) -> Any:
    """g/1, and g/2 with a better score on the same test set; the account that holds them."""
    first = account.packages[0]
    second = copy.deepcopy(first) | {"ModelPackageVersion": 2, "ModelPackageArn": f"{first['ModelPackageArn']}2"}
    second["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"] = "s3://bucket/e2/evaluation.json"
    first["CustomerMetadataProperties"] = {"split": "s3://bucket/s1", "git_commit": "aaa", "data_version": "d1"}
    second["CustomerMetadataProperties"] = {"split": "s3://bucket/s2", "git_commit": "bbb", "data_version": "d1"}
    evaluation = changed_evaluation(score={"value": 0.9})
    account.objects["s3://bucket/e2/evaluation.json"] = json.dumps(evaluation).encode()
    account.objects |= {f"s3://bucket/s{number}/split.json": split() for number in (1, 2)}
    account.packages.append(second)
    return account


def test_scores_metrics_and_origin_stand_side_by_side(medloop: Any, pair: Any) -> None:
    """Metrics with their differences, facts that differ, and that the test set is one."""
    assert medloop("models", "compare", "g/1", "g/2", "--json") == 0
    comparison = medloop.json
    assert comparison["comparable"] is True
    assert "g/2 has the higher macro_auroc, by 0.0250, on the same test set" in comparison["verdict"]
    facts = {row["name"]: (row["a"], row["b"], row["same"]) for row in comparison["facts"]}
    assert facts["commit"] == ("aaa", "bbb", False)
    assert facts["data version"] == ("d1", "d1", True)
    (accuracy,) = comparison["metrics"]
    assert (accuracy["name"], accuracy["difference"]) == ("accuracy", 0.0)
    assert medloop("models", "compare", "g/1", "g/2") == 0
    assert "on the same test set" in medloop.out


def test_a_version_is_not_compared_with_itself(medloop: Any, pair: Any) -> None:
    """The same version twice, however it is named, is a slip: one line, exit code 2."""
    assert medloop("models", "compare", "g/1", pair.packages[0]["ModelPackageArn"]) == 2
    assert "g/1 is named twice" in medloop.err


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (split("p3"), "different test sets"),
        (split(digest="e"), "different test sets"),
        (b"[]", "can't be read"),
        (b"{", "can't be read"),
    ],
)
def test_scores_of_other_test_sets_are_not_compared(medloop: Any, pair: Any, other: bytes, message: str) -> None:
    """Other patients, other images, or a split that can't be read: the verdict says so."""
    pair.objects["s3://bucket/s2/split.json"] = other
    assert medloop("models", "compare", "g/1", "g/2", "--json") == 0
    assert medloop.json["comparable"] is False
    assert message in medloop.json["verdict"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (split("p2", test_digest="t"), split("p3", test_digest="t"), True),
        (split("p2", test_digest="t"), split("p2", test_digest="u"), False),
        (split("p2", test_digest="t"), split("p2", digest="e", test_digest="t"), False),
        (split("p2"), split("p2", test_digest="t"), True),
        (split("p2"), split("p3", test_digest="t"), False),
    ],
)
def test_a_test_set_is_the_same_by_content(medloop: Any, pair: Any, first: bytes, second: bytes, same: bool) -> None:
    """Renamed images are the same; other images under the same names aren't; an earlier record is compared by names."""
    pair.objects |= {"s3://bucket/s1/split.json": first, "s3://bucket/s2/split.json": second}
    assert medloop("models", "compare", "g/1", "g/2", "--json") == 0
    assert medloop.json["comparable"] is same


def test_a_version_without_an_evaluation_is_shown_and_not_compared(medloop: Any, pair: Any) -> None:
    """A version that another tool registered has no scores."""
    del pair.packages[1]["ModelMetrics"]
    assert medloop("models", "compare", "g/1", "g/2") == 0
    assert "Not comparable: g/2: no evaluation." in medloop.out
