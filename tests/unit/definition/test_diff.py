"""The difference of two definitions, as `pipelines diff` shows it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from medloop.definition.diff import Change, diff_definitions
from medloop.errors import SettingError
from tests.unit.definition.documents import small_definition


def changes(**edits: Any) -> list[Change]:
    """What changes when the small definition is edited: `edit` gets the document."""
    before = small_definition()
    after = copy.deepcopy(before)
    edits["edit"](after)
    return diff_definitions(json.dumps(before), json.dumps(after))


def test_equal_definitions_differ_in_nothing() -> None:
    """White space doesn't count."""
    document = small_definition()
    assert diff_definitions(json.dumps(document), json.dumps(document, indent=4)) == []


def test_a_changed_member_is_named_by_step_and_path() -> None:
    """Both values are shown."""

    def edit(document: dict[str, Any]) -> None:
        document["Steps"][0]["Arguments"]["ProcessingResources"]["ClusterConfig"]["InstanceType"] = "ml.g5.xlarge"

    path = "Steps.Score.Arguments.ProcessingResources.ClusterConfig.InstanceType"
    assert changes(edit=edit) == [Change("changed", path, "ml.m5.xlarge", "ml.g5.xlarge")]


def test_a_step_put_first_changes_no_other() -> None:
    """Steps are compared by name, not by place."""

    def edit(document: dict[str, Any]) -> None:
        document["Steps"].insert(0, {"Name": "New", "Type": "Fail", "Arguments": {}})

    (change,) = changes(edit=edit)
    assert (change.kind, change.path, change.before) == ("added", "Steps.New", "")


def test_a_parameter_taken_away_is_removed() -> None:
    """Its stored value is shown."""

    def edit(document: dict[str, Any]) -> None:
        document["Parameters"] = [p for p in document["Parameters"] if p["Name"] != "Bound"]

    (change,) = changes(edit=edit)
    assert (change.kind, change.path, change.after) == ("removed", "Parameters.Bound", "")
    assert "0.5" in change.before


def test_arguments_of_a_job_are_compared_by_option() -> None:
    """`--task x` to `--seed 3 --task y`: one added, one changed."""

    def edit(document: dict[str, Any]) -> None:
        document["Steps"][0]["Arguments"]["AppSpecification"]["ContainerArguments"] = ["--seed", "3", "--task", "y"]

    prefix = "Steps.Score.Arguments.AppSpecification.ContainerArguments"
    assert changes(edit=edit) == [
        Change("changed", f"{prefix}.--task", "x", "y"),
        Change("added", f"{prefix}.--seed", "", "3"),
    ]


def test_a_stored_definition_that_is_no_json_is_one_line() -> None:
    """Another tool may have written it."""
    with pytest.raises(SettingError, match=r"is not JSON .* upsert the pipeline again"):
        diff_definitions("{", "{}")


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (
            "a" * 100 + "1" + "b" * 9,
            "a" * 100 + "2" + "b" * 9,
            ("..." + "a" * 30 + "1" + "b" * 9, "..." + "a" * 30 + "2" + "b" * 9),
        ),
        ("1" + "b" * 100, "2" + "b" * 100, ("1" + "b" * 76 + "...", "2" + "b" * 76 + "...")),
        ("a" * 100, "a" * 101, ("..." + "a" * 30, "..." + "a" * 31)),
        ("a" * 40 + "1", "a" * 40 + "2", ("a" * 40 + "1", "a" * 40 + "2")),
        ("a" * 100 + "1" * 200, "b", ("a" * 77 + "...", "b")),
    ],
)
def test_long_values_are_shown_where_they_differ(before: str, after: str, shown: tuple[str, str]) -> None:
    """Images of two builds have long names that differ in their digests."""
    (change,) = diff_definitions(json.dumps({"Image": before}), json.dumps({"Image": after}))
    assert (change.before, change.after) == shown
