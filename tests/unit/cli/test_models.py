"""`medloop models` against an account of the test's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.versions import EVALUATION, changed_evaluation


def test_list_shows_scores(medloop: Any, finished: str) -> None:
    """Each version stands with its approval and the score of its evaluation."""
    assert medloop("models", "list", "--json") == 0

    (row,) = medloop.json
    assert (row["model"], row["approval"], row["score"]) == ("g/1", "PendingManualApproval", 0.875)


HOSTILE = {
    "not JSON": b"{",
    "no object": b"[]",
    "another type": json.dumps(EVALUATION | {"score": 1}).encode(),
    "a missing field": json.dumps({"version": 1, "task": "classification"}).encode(),
    "no finite number": json.dumps(changed_evaluation(gate={"margin_left": float("nan")})).encode(),
    "an unknown field": json.dumps(EVALUATION | {"\x1b[2J": 1}).encode(),
    "a newer version": json.dumps(EVALUATION | {"version": 99}).encode(),
    "no end": b"[" * 100_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_malformed_evaluation_is_one_line(medloop: Any, account: Any, finished: str, content: bytes) -> None:
    """`show` and `list` warn of it by its URI, in one line, and give the rest of the version, without a score."""
    account.objects["s3://bucket/e/evaluation.json"] = content
    assert medloop("models", "show", "g/1") == 0
    assert medloop.err.startswith("g/1: s3://bucket/e/evaluation.json: ")
    assert medloop.err.count("\n") == 1
    assert medloop.err.removesuffix("\n").isprintable()
    assert "s3://bucket/m.tar.gz" in medloop.out
    assert "score" not in medloop.out
    assert medloop("models", "show", "g/1", "--json") == 0
    assert (medloop.json["model"], medloop.json["evaluation"]) == ("g/1", None)
    assert medloop("models", "list", "--json") == 0
    assert medloop.json[0]["score"] is None
    assert "g/1: s3://bucket/e/evaluation.json: " in medloop.err


def test_show_tells_score_metrics_and_origin(medloop: Any, finished: str) -> None:
    """`show` prints the score with its patients, each metric, the metadata and the artefact."""
    assert medloop("models", "show", "g/1") == 0

    assert "macro_auroc 0.8750 on 2 test patients" in medloop.out
    assert "s3://bucket/m.tar.gz" in medloop.out
    rows = [line.split() for line in medloop.out.splitlines()]
    assert ["accuracy", "0.7500", "0.1000"] in rows
    assert ["data_version", "d1"] in rows


def test_a_group_alone_is_its_newest_version(medloop: Any, account: Any, finished: str) -> None:
    """GROUP without a number means the newest version."""
    second = {**account.packages[0], "ModelPackageVersion": 2, "ModelPackageArn": "arn:two"}
    account.packages.append(second)

    assert medloop("models", "show", "g", "--json") == 0

    assert medloop.json["model"] == "g/2"


def test_unknown_versions_and_groups_are_refused(medloop: Any, finished: str) -> None:
    """A group or version that isn't there: one line, exit code 2."""
    assert medloop("models", "show", "g/9") == 2
    assert "there is no model 'g/9'" in medloop.err
    assert medloop("models", "list", "nope") == 2
    assert "there is no model group 'nope'" in medloop.err


def test_what_the_service_refuses_is_one_line(medloop: Any, finished: str) -> None:
    """A ClientError becomes one line with the service's words, without a traceback."""
    assert medloop("models", "show", "arn:aws:sagemaker:us-east-1:0:model-package/x/1") == 2

    assert medloop.err.startswith("error: ")
    assert "(DescribeModelPackage: ValidationException)" in medloop.err
    assert "An error occurred" not in medloop.err
    assert medloop.err.count("\n") == 1


def test_open_prints_a_file_that_holds_the_report(medloop: Any, finished: str) -> None:
    """`open` prints the path of a page below home that holds the report; one without a digest gives a warning."""
    assert medloop("models", "open", "g/1") == 0

    path = Path(medloop.out.rstrip("\n"))
    assert path.read_text().startswith("<html>report")
    assert path.is_relative_to(medloop.home)
    assert "no digest was registered" in medloop.err
    assert medloop("models", "open", "g/1", "--json") == 0
    assert medloop.json["page"] == str(path)
    assert Path(medloop.json["report"]).read_bytes() == b"<html>report</html>"
