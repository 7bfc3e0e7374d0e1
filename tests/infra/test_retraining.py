"""Retraining, as it flows: the template's guard is run; moto stands for the account."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.scheduling.guard import read_trigger
from medloop.documents.split import Task
from medloop.errors import DataError, SettingError
from medloop.imaging.layouts import find_cases
from medloop.input_data import MANIFEST, data_version
from tests.infra.conftest import WEEKLY
from tests.infra.flows import World, world

BUCKET = "data-of-tests"
FOLDER = "raw/segmentation/spleen"
URI = f"s3://{BUCKET}/{FOLDER}/"
DEFINITION = {"Version": "2020-12-01", "Parameters": [{"Name": "Epochs", "Type": "Integer", "DefaultValue": 5}]}
SCHEDULED = {"PipelineName": "segmentation", "PipelineParameters": [{"Name": "InputData", "Value": URI}]}


@pytest.fixture
def account(assembly: Path) -> Iterator[World]:
    """An account with the stack, a data set and a pipeline that has never run."""
    with world(assembly) as made:
        made.s3.create_bucket(Bucket=BUCKET)
        made.data = made.stack.outputs["DataBucket"]
        for bucket in (BUCKET, made.data):
            made.s3.put_object(Bucket=bucket, Key=f"{FOLDER}/a/img.nii.gz", Body=b"image")
        made.sagemaker.create_pipeline(
            PipelineName="segmentation",
            PipelineDefinition=json.dumps(DEFINITION),
            RoleArn="arn:aws:iam::123456789012:role/pipeline",
            ClientRequestToken="0" * 32,
        )
        yield made


def arrive(account: World, key: str = f"{FOLDER}/manifest.json") -> list[str]:
    """A file arrives in the data bucket; S3 tells EventBridge."""
    account.s3.put_object(Bucket=account.data, Key=key, Body=b"{}")
    return account.send("aws.s3", "Object Created", {"bucket": {"name": account.data}, "object": {"key": key}})


def guard(account: World) -> str:
    """The guard's ARN."""
    return account.stack.only("AWS::StepFunctions::StateMachine", "Guard")


def parameters(account: World) -> list[dict[str, str]]:
    """The parameters of each execution that was started."""
    return [{item["Name"]: item["Value"] for item in request["pipeline_parameters"]} for request in account.started]


@pytest.mark.slow
def test_a_manifest_starts_one_execution_with_the_version_that_run_computes(account: World) -> None:
    """DataVersion is the digest of keys, sizes and ETags, by the very function of `medloop run`."""
    (execution,) = arrive(account)
    assert account.ended(execution)["status"] == "SUCCEEDED"
    uri = f"s3://{account.data}/{FOLDER}/"
    listing = account.s3.list_objects_v2(Bucket=account.data, Prefix=f"{FOLDER}/")["Contents"]
    listing = [o for o in listing if not o["Key"].endswith("/manifest.json")]
    lines = sorted(f"{o['Key'].removeprefix(FOLDER + '/')}\t{o['Size']}\t{o['ETag']}\n" for o in listing)
    version = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert data_version(account.s3, uri) == version
    assert parameters(account) == [{"InputData": uri, "DataVersion": version}]


@pytest.mark.slow
@pytest.mark.parametrize("key", [f"{FOLDER}/b/img.nii.gz", "raw/other/x/manifest.json", "scratch/manifest.json"])
def test_other_files_start_nothing(account: World, key: str) -> None:
    """A data set is complete when its manifest is there; other prefixes are no pipeline's."""
    assert arrive(account, key) == []


@pytest.mark.slow
def test_a_second_is_held_back_while_one_runs_and_skipped_when_nothing_changed(account: World) -> None:
    """Two manifests' arrivals give one execution; the second guard waits for its end, then finds nothing to do."""
    (first,) = arrive(account)
    account.ended(first)
    (second,) = arrive(account)
    account.until(lambda: "HoldBack" in account.visited(second))
    assert len(account.started) == 1
    account.finish("segmentation")
    assert (end := account.ended(second))["status"] == "SUCCEEDED", end
    assert account.visited(second)[-1] == "Unchanged"
    assert len(account.started) == 1


@pytest.mark.slow
def test_what_arrives_while_one_runs_is_trained_on_afterwards(account: World) -> None:
    """Held back is not lost."""
    account.ended(arrive(account)[0])
    account.s3.put_object(Bucket=account.data, Key=f"{FOLDER}/b/img.nii.gz", Body=b"another")
    (second,) = arrive(account)
    account.until(lambda: "HoldBack" in account.visited(second))
    account.finish("segmentation")
    account.ended(second)
    first, then = parameters(account)
    assert first["DataVersion"] != then["DataVersion"]


@pytest.mark.slow
def test_unchanged_data_is_skipped_until_something_changes(account: World) -> None:
    """The data, a parameter or the pipeline; a failed execution is no reason to skip."""

    def run(content: dict[str, Any] = SCHEDULED) -> None:
        account.ended(account.start(guard(account), content))

    account.s3.put_object(Bucket=BUCKET, Key=f"{FOLDER}/manifest.json", Body=b"{}")
    run()
    account.finish("segmentation", "Failed")
    run()
    account.finish("segmentation")
    run()
    assert len(account.started) == 2
    default = {"PipelineParameters": [*SCHEDULED["PipelineParameters"], {"Name": "Epochs", "Value": "5"}]}
    run({**SCHEDULED, **default})
    assert len(account.started) == 2, "a parameter that says what the default says is no change"
    other = {"PipelineParameters": [*SCHEDULED["PipelineParameters"], {"Name": "Epochs", "Value": "1"}]}
    run({**SCHEDULED, **other})
    account.finish("segmentation")
    assert len(account.started) == 3
    account.upsert("segmentation")
    run()
    assert len(account.started) == 4


@pytest.mark.slow
def test_guards_that_look_at_the_same_moment_start_one(account: World) -> None:
    """The second finds the first's token, waits, and starts afterwards."""
    account.s3.put_object(Bucket=BUCKET, Key=f"{FOLDER}/manifest.json", Body=b"{}")
    looked = account.call("medloop-guard", {"trigger": SCHEDULED})[0]["request"]
    other = {"PipelineParameters": [*SCHEDULED["PipelineParameters"], {"Name": "Epochs", "Value": "1"}]}
    again = account.call("medloop-guard", {"trigger": {**SCHEDULED, **other}})[0]["request"]
    assert looked["ClientRequestToken"] == again["ClientRequestToken"]
    began = [account.sagemaker.start_pipeline_execution(**looked)["PipelineExecutionArn"] for _ in range(2)]
    assert began[0] == began[1]
    results = iter([({"action": "start", "pipeline": "segmentation", "request": again}, False)])
    real = account.call
    account.call = lambda *request: next(results, None) or real(*request)  # type: ignore[method-assign]
    execution = account.start(guard(account), {**SCHEDULED, **other})
    account.until(lambda: "HoldBack" in account.visited(execution))
    assert "LookWhy" in account.visited(execution)
    assert len(account.started) == 1


@pytest.mark.slow
def test_two_triggers_at_once_start_one_execution(account: World) -> None:
    """However the two guards' steps fall between one another; both end."""
    account.s3.put_object(Bucket=BUCKET, Key=f"{FOLDER}/manifest.json", Body=b"{}")
    both = [account.start(guard(account), SCHEDULED) for _ in range(2)]
    account.until(lambda: account.started)
    account.until(lambda: any(account.states.describe_execution(executionArn=e)["status"] != "RUNNING" for e in both))
    account.finish("segmentation")
    assert {account.ended(execution)["status"] for execution in both} == {"SUCCEEDED"}
    assert len(account.started) == 1


@pytest.mark.slow
def test_a_guard_that_is_given_anothers_execution_waits_its_turn(account: World) -> None:
    """The service may respond to a known token with its earlier execution: then the request is not lost."""
    account.lenient = True
    looked = account.call("medloop-guard", {"trigger": SCHEDULED})[0]["request"]
    other = {"PipelineParameters": [*SCHEDULED["PipelineParameters"], {"Name": "Epochs", "Value": "1"}]}
    again = account.call("medloop-guard", {"trigger": {**SCHEDULED, **other}})[0]["request"]
    account.sagemaker.start_pipeline_execution(**looked)
    results = iter([({"action": "start", "pipeline": "segmentation", "request": again}, False)])
    real = account.call
    account.call = lambda *request: next(results, None) or real(*request)  # type: ignore[method-assign]
    execution = account.start(guard(account), {**SCHEDULED, **other})
    account.until(lambda: "HoldBack" in account.visited(execution))
    assert "Confirm" in account.visited(execution)
    assert len(account.started) == 1
    account.finish("segmentation")
    assert account.ended(execution)["status"] == "SUCCEEDED"
    assert [values.get("Epochs") for values in parameters(account)] == [None, "1"]


@pytest.mark.slow
def test_a_manifest_that_comes_again_is_no_new_data(account: World) -> None:
    """Its content doesn't count: under KMS an equal object has another ETag each time it is stored."""
    account.ended(arrive(account)[0])
    account.finish("segmentation")
    account.s3.put_object(Bucket=account.data, Key=f"{FOLDER}/manifest.json", Body=b'{"again": true}')
    (execution,) = account.send(
        "aws.s3",
        "Object Created",
        {"bucket": {"name": account.data}, "object": {"key": f"{FOLDER}/manifest.json"}},
    )
    assert account.visited_by(execution)[-1] == "Unchanged"
    assert len(account.started) == 1


@pytest.mark.slow
def test_a_manifest_alone_is_no_data_set(account: World) -> None:
    """Nothing is started on nothing."""
    (execution,) = arrive(account, "raw/segmentation/empty/manifest.json")
    assert account.ended(execution)["status"] == "FAILED"
    assert "there is no file below it" in account.mails("Operations")[0]["Message"]


@pytest.mark.parametrize("presplit", [False, True])
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_the_split_takes_no_notice_of_the_manifest(tmp_path: Path, task: Task, presplit: bool) -> None:
    """The file that marks a data set as complete is in its root, next to the cases."""
    name = "cat/a.png" if task == "classification" else "s1/img.nii.gz"
    for top in ("train", "test") if presplit else ("",):
        folder = tmp_path / top / name
        folder.parent.mkdir(parents=True)
        folder.touch()
    without = find_cases(tmp_path, task)
    (tmp_path / MANIFEST).write_text("{}", encoding="utf-8")
    assert find_cases(tmp_path, task) == without
    assert without.cases
    assert without.problems == []


@pytest.mark.slow
def test_a_start_that_is_refused_is_reported(account: World) -> None:
    """Operations get a mail that names the runbook's entry, and the guard fails, which is an alarm too."""
    account.sagemaker.delete_pipeline(PipelineName="segmentation", ClientRequestToken="0" * 32)
    execution = account.start(guard(account), SCHEDULED)
    assert account.ended(execution)["status"] == "FAILED"
    (mail,) = account.mails("Operations")
    assert "medloop-retraining-failed" in mail["Message"]


@pytest.mark.slow
def test_an_empty_prefix_is_reported(account: World) -> None:
    """Nothing is started on nothing."""
    empty = {**SCHEDULED, "PipelineParameters": [{"Name": "InputData", "Value": f"s3://{BUCKET}/raw/none/"}]}
    assert account.ended(account.start(guard(account), empty))["status"] == "FAILED"
    assert "there is no file below it" in account.mails("Operations")[0]["Message"]
    assert account.started == []


@pytest.mark.slow
def test_a_schedule_of_the_stack_starts_its_pipeline_with_its_parameters(account: World) -> None:
    """The schedule's input is the guard's trigger."""
    schedule = account.stack.only("AWS::Scheduler::Schedule", "weekly")
    target = account.client("scheduler").get_schedule(Name=schedule)["Target"]
    trigger = read_trigger(json.loads(target["Input"]))
    bucket, _, prefix = trigger.parameters["InputData"].removeprefix("s3://").partition("/")
    if bucket != account.data:
        account.s3.create_bucket(Bucket=bucket)
    account.s3.put_object(Bucket=bucket, Key=f"{prefix}a/img.nii.gz", Body=b"image")
    assert account.ended(account.fire(schedule))["status"] == "SUCCEEDED"
    (values,) = parameters(account)
    assert values.pop("DataVersion") == data_version(account.s3, trigger.parameters["InputData"])
    assert values == trigger.parameters == {"InputData": WEEKLY.data, **WEEKLY.parameters}


@pytest.mark.parametrize(
    ("trigger", "error"),
    [
        ({}, SettingError),
        ({"PipelineName": "segmentation"}, SettingError),
        ({"source": "aws.s3", "detail": {"bucket": {"name": "b"}, "object": {"key": "manifest.json"}}}, SettingError),
        (
            {"source": "aws.s3", "detail": {"bucket": {"name": "b"}, "object": {"key": "raw/x/a,b/manifest.json"}}},
            DataError,
        ),
    ],
)
def test_a_trigger_that_is_none_is_refused(trigger: dict[str, Any], error: type[Exception]) -> None:
    """By name, before anything is listed."""
    with pytest.raises(error):
        read_trigger(trigger)
