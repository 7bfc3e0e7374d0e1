"""`medloop demo` against an account of the test's: both pipelines run at the same time, each with its own data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from medloop.documents.file_names import CARD_FILE
from tests.unit.cli.account import Account

Prepare = Callable[[str], None]


@pytest.fixture
def home(account: Account) -> str:
    """The account's home, with sample data of one file each."""
    for sample in ("plane", "brain-tissue"):
        folder = account.home / "samples" / sample
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(sample.encode())
    return str(account.home)


@pytest.fixture
def prepare(account: Account) -> Prepare:
    """Prepares what a start of each pipeline returns: an execution with that status."""

    def prepare(status: str) -> None:
        names = ("segmentation", "classification")
        arns = {name: account.add_execution(f"{name[:8]}0000", status, name) for name in names}

        def start(**request: Any) -> dict[str, Any]:
            account.calls.append(("start", request))
            return {"PipelineExecutionArn": arns[request["PipelineName"]]}

        account.start_pipeline_execution = start  # type: ignore[method-assign]
        # The account is recorded now; later that would delete the links to the samples.
        account.boto.client("s3").list_objects_v2(Bucket="bucket")

    return prepare


def test_both_start_before_either_is_awaited(medloop: Any, account: Account, home: str, prepare: Prepare) -> None:
    """The longer one first, and one that fails doesn't keep the other from its end; results are in the usual order."""
    prepare("Failed")
    assert medloop("demo", "--home", home, "--json") == 1

    assert [call for call, _ in account.calls] == ["upsert", "start", "upsert", "start"]
    starts = [request for call, request in account.calls if call == "start"]
    assert [request["PipelineName"] for request in starts] == ["segmentation", "classification"]
    inputs = [{p["Name"]: p["Value"] for p in request["PipelineParameters"]}["InputData"] for request in starts]
    assert ["/data/brain-tissue-" in inputs[0], "/data/plane-" in inputs[1]] == [True, True]
    assert [end["task"] for end in medloop.json] == ["classification", "segmentation"]
    assert "continues" not in medloop.err
    assert (account.home / "samples" / "plane" / CARD_FILE).is_file()


def test_interrupt_names_all_that_continue(medloop: Any, home: str, prepare: Prepare) -> None:
    """Ctrl-C while the first is followed: neither execution stops, and the user learns how to follow and stop both."""
    prepare("Executing")

    def interrupt() -> None:
        raise KeyboardInterrupt

    medloop.on_sleep = interrupt
    assert medloop("demo", "--home", home) == 130
    for identifier in ("classifi0000", "segmenta0000"):
        assert f"execution {identifier} continues" in medloop.err
        assert f"medloop executions stop {identifier} --home {home}" in medloop.err


def test_one_task_runs_alone(medloop: Any, account: Account, home: str, prepare: Prepare) -> None:
    """`--task` starts no other pipeline and makes no other sample data."""
    prepare("Failed")
    assert medloop("demo", "--task", "classification", "--home", home, "--json") == 1

    assert [request["PipelineName"] for call, request in account.calls if call == "start"] == ["classification"]
    assert not (account.home / "samples" / "brain-tissue" / CARD_FILE).exists()
