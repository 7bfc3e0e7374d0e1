"""A definition's steps, their order, and its picture."""

from __future__ import annotations

import json

import pytest

from medloop.definition.conditions import describe_conditions
from medloop.definition.draw import direct_needs, draw_text
from medloop.definition.read import Definition, describe_value, read_definition
from medloop.errors import SettingError
from tests.unit.definition.documents import get, small_definition


def small() -> Definition:
    """The document as read."""
    return read_definition(json.dumps(small_definition()))


def test_steps_need_what_they_get_from_and_their_condition() -> None:
    """Dependencies are implicit by Get; a branch's steps wait for its condition."""
    needs = {step.name: set(step.needs) for step in small().steps}
    assert needs == {
        "Score": set(),
        "Train": {"Score"},
        "Gate": {"Score"},
        "Register": {"Gate", "Train"},
        "Stop": {"Gate"},
    }


def test_branches_are_known() -> None:
    """A step in a branch says which one; others don't."""
    branches = {step.name: step.branch for step in small().steps}
    assert branches["Register"] == ("Gate", "yes")
    assert branches["Stop"] == ("Gate", "no")
    assert branches["Train"] is None


def test_order_keeps_dependencies_in_any_document_order() -> None:
    """A step never comes before one that it needs."""
    document = small_definition()
    document["Steps"].reverse()
    ordered = read_definition(json.dumps(document)).in_order()
    seen: set[str] = set()
    for step in ordered:
        assert step.needs <= seen
        seen.add(step.name)
    assert len(ordered) == 5


def test_cycle_has_no_order() -> None:
    """Steps that wait for each other are named."""
    document = small_definition()
    document["Steps"][0]["DependsOn"] = ["Train"]
    with pytest.raises(SettingError, match=r"wait for each other: .*Score"):
        read_definition(json.dumps(document)).in_order()


def test_text_drawing_shows_each_step_once_and_the_condition() -> None:
    """One line a step, branches marked, the condition in words."""
    lines = draw_text(small()).splitlines()
    assert len(lines) == 5
    assert next(line for line in lines if line.startswith("Gate")).endswith("value >= Bound")
    assert any(line.split()[:3] == ["yes", "->", "Register"] for line in lines)
    assert any(line.split()[:3] == ["no", "->", "Stop"] for line in lines)


def test_only_direct_needs_are_drawn() -> None:
    """A need that follows from others is left out; a branch's step is drawn from its condition."""
    assert direct_needs(small().step("Register"), small()) == ["Gate"]


def test_composite_conditions_in_words() -> None:
    """Or, Not and In read as a person would say them."""
    equal = {"Type": "Equals", "LeftValue": get("Parameters.Data"), "RightValue": "x"}
    among = {"Type": "In", "QueryValue": get("Parameters.Data"), "Values": ["x", "y"]}
    document = small_definition()
    gate = document["Steps"][2]["Arguments"]
    gate["Conditions"] = [{"Type": "Or", "Conditions": [{"Type": "Not", "Condition": equal}, among]}]
    step = read_definition(json.dumps(document)).step("Gate")
    assert describe_conditions(step) == "(not (Data = x) or Data in (x, y))"


def test_expressions_in_words() -> None:
    """Parameters by name, joins joined, numbers short."""
    assert describe_value(get("Parameters.Bound")) == "Bound"
    assert describe_value({"Std:Join": {"On": "/", "Values": ["s3://b", get("Parameters.Data")]}}) == "s3://b/Data"
    assert describe_value(0.0) == "0"
