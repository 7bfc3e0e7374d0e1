"""What expressions are worth, and when conditions hold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from medloop.local.engine.expressions import Scope, is_true, resolve
from medloop.local.errors import ExpressionError

JOB = {
    "ModelArtifacts": {"S3ModelArtifacts": "s3://b/model.tar.gz"},
    "ProcessingOutputConfig": {"Outputs": [{"OutputName": "train", "S3Output": {"S3Uri": "s3://b/train"}}]},
    "FinalMetricDataList": [{"MetricName": "val:dice", "Value": 0.5}],
}
EVALUATION = {"score": {"value": 0.75, "name": "dice", "none": None}, "list": [1, {"a b": True}]}


def scope() -> Scope:
    """A scope with one job, one property file and a few parameters."""
    files = {"s3://b/evaluation.json": json.dumps(EVALUATION).encode(), "s3://b/broken.json": b"{"}
    return Scope(
        {"Epochs": 3, "Rate": 0.5, "Name": "x", "Flag": True},
        {"PipelineExecutionId": "abc"},
        files.__getitem__,
        {"Job": JOB, "Gate": {"Outcome": "True"}},
        {("Job", "evaluation"): "s3://b/evaluation.json", ("Job", "broken"): "s3://b/broken.json"},
    )


def json_get(path: str, file: str = "evaluation") -> dict[str, Any]:
    """A Std:JsonGet expression."""
    return {"Std:JsonGet": {"PropertyFile": {"Get": f"Steps.Job.PropertyFiles.{file}"}, "Path": path}}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ({"Get": "Parameters.Epochs"}, 3),
        ({"Get": "Execution.PipelineExecutionId"}, "abc"),
        ({"Get": "Steps.Job.ModelArtifacts.S3ModelArtifacts"}, "s3://b/model.tar.gz"),
        ({"Get": "Steps.Job.ProcessingOutputConfig.Outputs['train'].S3Output.S3Uri"}, "s3://b/train"),
        ({"Get": "Steps.Job.ProcessingOutputConfig.Outputs[0].S3Output.S3Uri"}, "s3://b/train"),
        ({"Get": "Steps.Job.FinalMetricDataList['val:dice'].Value"}, 0.5),
        ({"Get": "Steps.Gate.Outcome"}, "True"),
        ({"Std:Join": {"On": "/", "Values": ["s3:/", {"Get": "Parameters.Name"}, 1]}}, "s3://x/1"),
        ({"Std:Join": {"Values": [{"Get": "Parameters.Rate"}, {"Get": "Parameters.Flag"}]}}, "0.5true"),
        (json_get("score.value"), 0.75),
        (json_get("score['name']"), "dice"),
        (json_get("list[0]"), 1),
        (json_get("list[1]['a b']"), True),
        ({"a": [{"Get": "Parameters.Epochs"}, "Get"]}, {"a": [3, "Get"]}),
    ],
)
def test_expression_has_the_value_and_type_it_refers_to(expression: Any, value: Any) -> None:
    """References, joins and property files, at any depth of a document."""
    resolved = resolve(expression, scope())
    assert resolved == value
    assert type(resolved) is type(value)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ({"Get": "Parameters.Other"}, "Parameters.Other"),
        ({"Get": "Steps.Later.X"}, "Steps.Later.X"),
        ({"Get": "Steps.Job.ProcessingOutputConfig.Outputs[7].S3Output"}, "Outputs"),
        ({"Get": "Nothing.X"}, "Nothing.X"),
        ({"Std:Join": {"On": "", "Values": [{"Get": "Steps.Job.ModelArtifacts"}]}}, "Std:Join"),
        (json_get("score.missing"), "score.missing"),
        (json_get("score.value.deeper"), "score.value.deeper"),
        (json_get("score"), "no single value"),
        (json_get("score.none"), "no single value"),
        (json_get("x", "broken"), "not JSON"),
        (json_get("x", "undeclared"), "undeclared"),
    ],
)
def test_expression_without_a_value_says_which(expression: Any, reason: str) -> None:
    """The reason names the reference or the path that leads nowhere."""
    with pytest.raises(ExpressionError, match=reason):
        resolve(expression, scope())


def compare(kind: str, left: Any, right: Any) -> dict[str, Any]:
    """A comparison."""
    return {"Type": kind, "LeftValue": left, "RightValue": right}


@pytest.mark.parametrize(
    ("condition", "outcome"),
    [
        (compare("GreaterThanOrEqualTo", json_get("score.value"), 0.75), True),
        (compare("GreaterThan", json_get("score.value"), 0.75), False),
        (compare("LessThan", {"Get": "Parameters.Epochs"}, 3.5), True),
        (compare("LessThanOrEqualTo", 3, 2), False),
        (compare("Equals", {"Get": "Parameters.Name"}, "x"), True),
        (compare("Equals", 1, 1.0), True),
        ({"Type": "Not", "Condition": compare("Equals", "a", "b")}, True),
        ({"Type": "Or", "Conditions": [compare("Equals", 1, 2), compare("Equals", 1, 1)]}, True),
        ({"Type": "And", "Conditions": [compare("Equals", 1, 2), compare("Equals", 1, 1)]}, False),
        ({"Type": "In", "QueryValue": {"Get": "Parameters.Name"}, "Values": ["y", "x"]}, True),
        ({"Type": "In", "QueryValue": "z", "Values": ["y", "x"]}, False),
    ],
)
def test_condition_holds_as_its_type_says(condition: dict[str, Any], outcome: bool) -> None:
    """Every condition type, both ways."""
    assert is_true(condition, scope()) is outcome


@pytest.mark.parametrize(
    "condition",
    [
        compare("GreaterThanOrEqualTo", "0.9", 0.5),
        compare("LessThan", True, 2),
        compare("Equals", "1", 1),
        compare("Almost", 1, 1),
    ],
)
def test_condition_that_compares_unlike_things_fails(condition: dict[str, Any]) -> None:
    """A gate never passes, or blocks, because a number came as text."""
    with pytest.raises(ExpressionError):
        is_true(condition, scope())
