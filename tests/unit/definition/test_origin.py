"""The origin of a definition in its Metadata, within the service's limits, and differences except for the commit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from medloop.definition.origin import (
    MAX_TEXT,
    Recorded,
    changes_to_review,
    commit_of,
    differences,
    read_origin,
    with_origin,
)
from medloop.errors import SettingError

FIRST, SECOND = "1" * 40, "2" * 40 + "-dirty"


def definition(commit: str = FIRST, image: str = "a", **more: object) -> str:
    """A definition with a registration within a branch."""
    register = {"Name": "Register", "Arguments": {"CustomerMetadataProperties": {"git_commit": commit}}}
    train = {"Name": "Train", "Arguments": {"Image": image}}
    gate = {"Name": "Gate", "Arguments": {"IfSteps": [register]}}
    return json.dumps({"Version": "2020-12-01", "Metadata": {}, "Parameters": [], "Steps": [train, gate], **more})


@pytest.mark.parametrize("size", [0, 1, MAX_TEXT, 20 * MAX_TEXT])
def test_settings_come_back_as_they_were(size: int) -> None:
    """Of any length, with letters of any script, in texts that the service's schema takes."""
    recorded = Recorded("segmentation", {"note": 'ü"\\' * size, "network": {"subnets": ["a"]}, "rate": 1e-4})
    written = with_origin(definition(), recorded)
    assert read_origin(written) == recorded
    assert all(len(text) <= 1024 for text in json.loads(written)["Metadata"].values())
    assert all(len(name) <= 128 and name.replace("_", "").isalnum() for name in json.loads(written)["Metadata"])


def test_nothing_else_of_the_definition_changes() -> None:
    """Not by a byte, and what else is in Metadata stays."""
    before = definition(Metadata={"mine": "x"})
    after = json.loads(with_origin(before, Recorded("p", {})))
    assert after["Metadata"].pop("mine") == "x"
    after["Metadata"] = {"mine": "x"}
    assert json.dumps(after) == before


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"medloop_pipeline": "p"},
        {"medloop_settings_001": "{}"},
        {"medloop_pipeline": "p", "medloop_settings_001": "{"},
        {"medloop_pipeline": "p", "medloop_settings_001": "[]"},
        {"medloop_pipeline": 3, "medloop_settings_001": "{}"},
        "text",
        None,
    ],
)
def test_a_definition_without_origin_records_none(metadata: object) -> None:
    """An earlier one, another tool's, or one whose record was damaged."""
    assert read_origin(definition(Metadata=metadata)) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_what_is_no_definition_is_refused(text: str) -> None:
    """In one line."""
    with pytest.raises(SettingError, match="pipeline definition: is no"):
        read_origin(text)


def test_the_commit_alone_is_no_difference() -> None:
    """Code counts by its digests."""
    assert differences(definition(FIRST), definition(SECOND)) == []
    assert differences(definition(FIRST), definition("none")) == []
    assert [change.path for change in differences(definition(), definition(image="b"))] == [
        "Steps.Train.Arguments.Image"
    ]


def test_a_member_that_is_there_twice_is_refused() -> None:
    """Python reads the last one, and another reader may run the first."""
    twice = definition().replace('"Image"', '"Image": "evil", "Image"')
    assert json.loads(twice) == json.loads(definition())
    with pytest.raises(SettingError, match="has a member twice"):
        differences(definition(), twice)


@pytest.mark.parametrize("commit", ["s3://elsewhere/code", "", "1" * 39, "1" * 40 + "\n"])
def test_another_text_than_a_commit_is_a_difference(commit: str) -> None:
    """As is an expression, or the entry's absence."""
    (change,) = differences(definition(), definition(commit))
    assert change.path.endswith(".CustomerMetadataProperties.git_commit")


def test_a_step_or_member_of_the_entrys_name_is_a_difference() -> None:
    """A path that ends like the entry's isn't the entry's."""
    document = json.loads(definition())
    document["Steps"].append({"Name": "git_commit", "Arguments": {"git_commit": SECOND}})
    assert [change.path for change in differences(definition(), json.dumps(document))] == ["Steps.git_commit"]
    document["Steps"].pop()
    document["Steps"][0]["Arguments"]["git_commit"] = SECOND
    (change,) = differences(definition(), json.dumps(document))
    assert (change.kind, change.path) == ("added", "Steps.Train.Arguments.git_commit")
    twice = [json.loads(json.dumps(document)) for _ in range(2)]
    twice[1]["Steps"][0]["Arguments"]["git_commit"] = FIRST
    assert [change.path for change in differences(*map(json.dumps, twice))] == ["Steps.Train.Arguments.git_commit"]


def test_the_commit_is_found_in_a_branch() -> None:
    """Or there is none."""
    assert commit_of(definition()) == FIRST
    assert commit_of('{"Steps": []}') is None


def recorded(
    settings: dict[str, Any], *, commit: str = "a" * 40, epochs: int = 3, pipeline: str = "segmentation"
) -> str:
    """A definition with a record of its build, an effect of its settings, and the commit that it registers."""
    document = {
        "Parameters": [{"Name": "Epochs", "DefaultValue": epochs}],
        "Steps": [{"Name": "Register", "Arguments": {"CustomerMetadataProperties": {"git_commit": commit}}}],
    }
    return with_origin(json.dumps(document), Recorded(pipeline, settings))


BASE = {"train": {"epochs": 3, "network": "unet"}, "tags": {"team": "x" * 3000}, "folds": [1, 2]}


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        (BASE, []),
        ({**BASE, "train": {"epochs": 4, "network": "unet"}}, [("changed", "settings train.epochs", "3", "4")]),
        ({**BASE, "train": {"epochs": 3}}, [("removed", "settings train.network", "unet", "")]),
        ({**BASE, "smoke": True}, [("added", "settings smoke", "", "true")]),
        ({**BASE, "folds": [1, 3]}, [("changed", "settings folds", "[1, 2]", "[1, 3]")]),
        (
            {**BASE, "tags": {"team": "x" * 2999 + "y"}},
            [("changed", "settings tags.team", "..." + "x" * 31, "..." + "x" * 30 + "y")],
        ),
        (
            {"train": {"epochs": 3, "network": "unet"}, "folds": [1, 2]},
            [("removed", "settings tags", '{"team": "' + "x" * 67 + "...", "")],
        ),
    ],
)
def test_settings_are_shown_by_name(settings: dict[str, Any], changes: list[tuple[str, ...]]) -> None:
    """And not the text that records them, which changes in every entry after a longer value."""
    response = changes_to_review(recorded(BASE), recorded(settings))
    assert [(c.kind, c.path, c.before, c.after) for c in response] == changes


def test_settings_come_before_their_effects_and_the_commit_after() -> None:
    """A reviewer reads what was chosen, then what follows from it."""
    after = recorded({**BASE, "smoke": True}, epochs=1, commit="b" * 40)
    changes = changes_to_review(recorded(BASE), after)
    assert [change.path for change in changes] == ["settings smoke", "Parameters.Epochs.DefaultValue", "commit"]


def test_a_commit_alone_is_one_line() -> None:
    """It is registered with versions, so an upsert would change it."""
    (change,) = changes_to_review(recorded(BASE), recorded(BASE, commit="b" * 40 + "-dirty"))
    assert (change.path, change.before, change.after) == ("commit", "a" * 40, "b" * 40 + "-dirty")


@pytest.mark.parametrize(("old", "new", "kind"), [(False, True, "added"), (True, False, "removed")])
def test_a_definition_without_a_record_is_said_to_have_none(old: bool, new: bool, kind: str) -> None:
    """One that an earlier release, or another tool, published; its other metadata are compared."""
    bare = {**json.loads(recorded(BASE)), "Metadata": {"owner": "a"}}
    texts = [recorded(BASE) if is_recorded else json.dumps(bare) for is_recorded in (old, new)]
    changes = changes_to_review(*texts)
    assert (changes[0].kind, changes[0].path) == (kind, "settings")
    assert [change.path for change in changes[1:]] == ["Metadata"]


def test_the_pipeline_behind_a_definition_is_shown() -> None:
    """A definition of the same name that another pipeline builds."""
    (change,) = changes_to_review(recorded(BASE), recorded(BASE, pipeline="lungs"))
    assert (change.path, change.before, change.after) == ("pipeline", "segmentation", "lungs")


def test_a_record_that_can_not_be_read_hides_no_other_change() -> None:
    """It was written by hand, or cut."""
    broken = json.loads(recorded(BASE))
    broken["Metadata"]["medloop_settings_001"] = "{"
    changes = changes_to_review(json.dumps(broken), recorded(BASE, epochs=9))
    assert [change.path for change in changes] == ["settings", "Parameters.Epochs.DefaultValue"]
