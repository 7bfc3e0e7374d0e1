"""The schema of a model package's card: what the service's own documentation forbids is refused by path."""

from __future__ import annotations

import json
from typing import Any

import pytest

from medloop.documents.package_card import card_problem

METRIC = {"name": "m", "type": "bar_chart", "value": [1.0], "x_axis_name": ["a"]}


def evaluated(metric: dict[str, Any]) -> dict[str, Any]:
    """A card with one metric."""
    groups = [{"name": "g", "metric_data": [metric]}]
    return {"evaluation_details": [{"name": "e", "metric_groups": groups}]}


@pytest.mark.parametrize(
    ("card", "problem"),
    [
        ({"model_overview": {"algorithm_type": "unet"}}, "model_overview.algorithm_type: Extra"),
        ({"model_package_details": {}}, "model_package_details: Extra"),
        ({"additional_information": {"custom_details": {"k": "x" * 1025}}}, "additional_information.custom_details.k:"),
        ({"additional_information": {"custom_details": {"k": 1}}}, "additional_information.custom_details.k:"),
        ({"intended_uses": {"risk_rating": "high"}}, "intended_uses.risk_rating:"),
        ({"intended_uses": {"intended_uses": "x" * 2049}}, "intended_uses.intended_uses:"),
        ({"evaluation_details": [{"metric_groups": []}]}, "evaluation_details.0.name: Field required"),
        (evaluated(METRIC | {"x_axis_name": ["x" * 64]}), "evaluation_details.0.metric_groups.0.metric_data.0"),
        (evaluated(METRIC | {"value": []}), "evaluation_details.0.metric_groups.0.metric_data.0"),
        (evaluated(METRIC | {"type": "matrix", "value": [[1.0] * 21]}), "evaluation_details.0.metric_groups.0"),
        (evaluated(METRIC | {"unit": "mm"}), "evaluation_details.0.metric_groups.0"),
        ([], ": Input should be"),
    ],
)
def test_what_the_service_refuses_is_named(card: Any, problem: str) -> None:
    """Members that the narrow card doesn't have, values beyond their lengths, metrics of another form."""
    assert (card_problem(json.dumps(card)) or "").startswith(problem)


def test_what_the_service_takes_is_taken() -> None:
    """An empty card, a card of all kinds of metrics, no text at all."""
    simple = {"name": "m", "type": "number", "value": 0.5}
    line = {"name": "m", "type": "linear_graph", "value": [[0.0, 1.0]], "x_axis_name": "epoch"}
    for card in ({}, *(evaluated(metric) for metric in (METRIC, simple, line, simple | {"value": "text"}))):
        assert card_problem(json.dumps(card)) is None
    assert "no JSON" in (card_problem("{") or "")
