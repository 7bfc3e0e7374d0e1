"""The changes that are shown, and the confirmation, before a pipeline changes on AWS."""

from __future__ import annotations

import json
from typing import Any

import pytest

STORED = json.dumps({"Version": "2020-12-01", "Parameters": [{"Name": "Epochs", "DefaultValue": 3}], "Steps": []})
RUN = ("run", "classification", "--data", "s3://bucket/data", "--target", "aws", "--no-wait")


@pytest.fixture
def changed(account: Any) -> Any:
    """An account whose pipeline differs from what the settings make, and with data."""
    account.definitions["classification"] = STORED
    account.objects["s3://bucket/data/a.png"] = b"a"
    return account


def test_diff_shows_what_an_upsert_would_change_and_changes_nothing(medloop: Any, changed: Any) -> None:
    """Where, what is there now, and what would be there."""
    assert medloop("pipelines", "diff", "classification", "--json") == 0
    (change,) = medloop.json["changes"]
    assert (change["kind"], change["path"], medloop.json["new"]) == ("removed", "Parameters.Epochs", False)
    assert changed.calls == []


def test_diff_of_a_pipeline_that_is_not_there_says_new(medloop: Any) -> None:
    """Nothing to compare with."""
    assert medloop("pipelines", "diff", "classification") == 0
    assert "new on local" in medloop.out


@pytest.mark.slow
def test_run_on_aws_shows_the_changes_and_waits_for_a_yes(medloop: Any, changed: Any) -> None:
    """Without a terminal to ask at, the run ends before anything is uploaded or started."""
    assert medloop(*RUN) == 2
    assert "Parameters.Epochs" in medloop.err
    assert "add --yes" in medloop.err
    assert changed.calls == []


def test_run_on_aws_with_yes_goes_on(medloop: Any, changed: Any) -> None:
    """The changes are shown all the same."""
    assert medloop(*RUN, "--yes") == 0
    assert "Parameters.Epochs" in medloop.err
    assert [call for call, _ in changed.calls] == ["upsert", "start"]


def test_run_on_aws_without_changes_asks_nothing(medloop: Any, changed: Any) -> None:
    """The pipeline is as it would be."""
    changed.definitions["classification"] = medloop.built
    assert medloop(*RUN) == 0
    assert "nothing changes" in medloop.err


def test_upsert_on_this_machine_asks_nothing(medloop: Any, changed: Any) -> None:
    """A local pipeline is one's own."""
    assert medloop("pipelines", "upsert", "classification", "--json") == 0
    assert medloop.json["arn"].endswith("pipeline/classification")
    assert [call for call, _ in changed.calls] == ["upsert"]
