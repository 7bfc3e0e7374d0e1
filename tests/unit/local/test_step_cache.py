"""The step cache through real executions: what is taken from it, what isn't, and what the records say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from medloop.definition.caching import seconds_of
from medloop.errors import SettingError
from medloop.local.state.home import BUCKET
from medloop.local.state.store import Store, Table
from tests.unit.local.steps import processing, training

MAKE = """
import json, os, sys
from pathlib import Path
folder = Path(os.environ["ML_ROOT"], "processing/output/made")
(folder / "sub").mkdir()
(folder / "sub/note.txt").write_text(" ".join(sys.argv))
(folder / "score.json").write_text(json.dumps({"score": 0.75}))
"""
TRAIN = """
import os
from pathlib import Path
(Path(os.environ["ML_ROOT"]) / "model/weights").write_text("w")
"""
CACHED = {"Enabled": True, "ExpireAfter": "30d"}
PARAMETERS = [{"Name": "Word", "Type": "String", "DefaultValue": "one"}]


def chain(local: Any, make: str = MAKE, cache: Any = CACHED) -> list[dict[str, Any]]:
    """Make -> Train, both cached; their outputs are stored below their execution's id."""
    identifier = {"Get": "Execution.PipelineExecutionId"}
    below = {"Std:Join": {"On": "/", "Values": [f"s3://{BUCKET}/runs", identifier]}}
    first = processing(
        "Make",
        local.image(make),
        outputs={"made": {"Std:Join": {"On": "/", "Values": [below, "made"]}}},
        arguments=[{"Get": "Parameters.Word"}],
        CacheConfig=cache,
        PropertyFiles=[{"PropertyFileName": "score", "OutputName": "made", "FilePath": "score.json"}],
    )
    made = {"Get": "Steps.Make.ProcessingOutputConfig.Outputs['made'].S3Output.S3Uri"}
    score = {"Std:JsonGet": {"PropertyFile": {"Get": "Steps.Make.PropertyFiles.score"}, "Path": "score"}}
    second = training(
        "Train",
        local.image(TRAIN),
        {"made": made},
        HyperParameters={"score": {"Std:Join": {"On": "", "Values": [score]}}},
        OutputDataConfig={"S3OutputPath": {"Std:Join": {"On": "/", "Values": [below, "trained"]}}},
    )
    return [first, {**second, "CacheConfig": cache}]


def source_of(step: dict[str, Any]) -> str | None:
    """The execution that a step's result was taken from."""
    hit: dict[str, str] = step.get("CacheHitResult", {})
    return hit.get("SourcePipelineExecutionArn")


@pytest.mark.slow
def test_equal_steps_are_taken_from_the_first_run(local: Any) -> None:
    """The second and third run start no job and name the first as the source; its job and outputs stand for theirs."""
    steps = chain(local)
    first, ran = local.run(steps, PARAMETERS)
    for _ in range(2):
        ended, records = local.run(steps, PARAMETERS)
        assert ended["PipelineExecutionStatus"] == "Succeeded"
        assert {source_of(step) for step in records.values()} == {first["PipelineExecutionArn"]}
        assert [step["Metadata"] for step in records.values()] == [step["Metadata"] for step in ran.values()]
    assert len(local.sagemaker.list_processing_jobs()["ProcessingJobSummaries"]) == 1
    assert len(local.sagemaker.list_training_jobs()["TrainingJobSummaries"]) == 1


@pytest.mark.slow
def test_changed_argument_runs_again_and_the_change_goes_on_downstream(local: Any) -> None:
    """Another argument misses; the step behind it misses too, since its input is another place."""
    steps = chain(local)
    local.run(steps, PARAMETERS)
    _, records = local.run(steps, PARAMETERS, Word="two")
    assert [source_of(step) for step in records.values()] == [None, None]
    _, again = local.run(steps, PARAMETERS)
    assert None not in [source_of(step) for step in again.values()]


@pytest.mark.slow
def test_changed_image_runs_again_and_the_older_result_stays(local: Any) -> None:
    """Another code bundle is another image: the step runs; with the first image, the first result is there still."""
    first, _ = local.run(chain(local)[:1], PARAMETERS)
    name = first["PipelineExecutionArn"].rpartition(":pipeline/")[2].partition("/")[0]
    client = local.sagemaker
    old = client.describe_pipeline(PipelineName=name)["PipelineDefinition"]
    new = json.dumps({"Version": "2020-12-01", "Parameters": PARAMETERS, "Steps": chain(local, MAKE + "# new")[:1]})
    for definition, expected in ((new, None), (old, first["PipelineExecutionArn"])):
        client.update_pipeline(PipelineName=name, PipelineDefinition=definition)
        arn = client.start_pipeline_execution(PipelineName=name)["PipelineExecutionArn"]
        assert local.finish(arn)["PipelineExecutionStatus"] == "Succeeded"
        assert source_of(local.steps(arn)["Make"]) == expected


@pytest.mark.slow
def test_outputs_changed_since_are_no_hit_and_the_log_says_so(local: Any) -> None:
    """With one object deleted, the step runs again, its job's log names the place, and the new result is cached."""
    steps = chain(local)
    first, _ = local.run(steps, PARAMETERS)
    identifier = first["PipelineExecutionArn"].rpartition("/")[2]
    local.s3.delete_object(Bucket=BUCKET, Key=f"runs/{identifier}/made/sub/note.txt")
    second, records = local.run(steps, PARAMETERS)
    assert [source_of(step) for step in records.values()] == [None, None]
    job = records["Make"]["Metadata"]["ProcessingJob"]["Arn"].rpartition("/")[2]
    logs = local.boto.client("logs")
    (stream,) = logs.describe_log_streams(logGroupName="/aws/sagemaker/ProcessingJobs", logStreamNamePrefix=job)[
        "logStreams"
    ]
    events = logs.get_log_events(logGroupName="/aws/sagemaker/ProcessingJobs", logStreamName=stream["logStreamName"])[
        "events"
    ]
    assert f"execution {identifier} is not used: s3://{BUCKET}/runs/{identifier}/made/" in events[0]["message"]
    _, third = local.run(steps, PARAMETERS)
    assert {source_of(step) for step in third.values()} == {second["PipelineExecutionArn"]}


@pytest.mark.slow
def test_old_failed_and_foreign_runs_do_not_count(local: Any) -> None:
    """A run beyond ExpireAfter, a failed one, one of another pipeline, and a cache turned off are no hits."""
    steps = chain(local, cache={"Enabled": True, "ExpireAfter": "T1h"})
    local.run(steps[:1], PARAMETERS)
    _, records = local.run([*steps[:1], training("Other", "image", DependsOn=["Make"])], PARAMETERS)
    assert source_of(records["Make"]) is None  # another pipeline
    store = Store(local.home / "medloop.db")
    with store.write() as write:
        for key in [row[0] for row in write.db.execute("SELECT key FROM step_cache")]:
            entry = write.get(Table.CACHE, key) or {}
            write.put(Table.CACHE, key, {**entry, "ended": entry["ended"] - 3601})
    _, records = local.run(steps[:1], PARAMETERS)
    assert source_of(records["Make"]) is None
    off = chain(local, cache={"Enabled": False, "ExpireAfter": "30d"})[:1]
    for _ in range(2):
        assert source_of(local.run(off, PARAMETERS)[1]["Make"]) is None
    bad = [processing("Bad", local.image("import sys; sys.exit(3)"), CacheConfig=CACHED)]
    assert [source_of(local.run(bad)[1]["Bad"]) for _ in range(2)] == [None, None]


@pytest.mark.slow
def test_job_that_outlived_its_engine_enters_the_cache_with_the_retry(local: Any) -> None:
    """A reader ends such a step as Succeeded, without its result; the retry reads it from the job and remembers it."""
    bad = processing("Bad", local.image("import sys; sys.exit(3)"), DependsOn=["Make"])
    steps = [chain(local)[0], bad]
    first, _ = local.run(steps, PARAMETERS)
    arn = first["PipelineExecutionArn"]
    with Store(local.home / "medloop.db").write() as write:
        record = write.get(Table.STEPS, f"{arn}/Make") or {}
        public = {key: value for key, value in record.items() if not key.startswith("_")}
        write.put(Table.STEPS, f"{arn}/Make", public)
        write.db.execute("DELETE FROM step_cache")
    local.sagemaker.retry_pipeline_execution(PipelineExecutionArn=arn)
    local.finish(arn)
    _, records = local.run(steps, PARAMETERS)
    assert source_of(records["Make"]) == arn


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30d", 2_592_000), ("T16m", 960), ("30dT5h", 2_610_000), ("PT1H", 3600), ("P1Y", 31_536_000), ("2w", 1_209_600)],
)
def test_durations_are_read_as_aws_writes_them(text: str, seconds: int) -> None:
    """Examples of AWS's documentation, with and without the leading P."""
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "soon", "T", "5x", "1h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """The message shows how to write one."""
    with pytest.raises(SettingError, match="write 30d"):
        seconds_of(text)
