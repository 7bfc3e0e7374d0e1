"""Executions as real processes: order, branches, stop, and what is true after a kill."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from typing import Any

import psutil
import pytest

from medloop.local.state.home import BUCKET
from tests.unit.local.conftest import wait_until
from tests.unit.local.steps import compare, condition, fail, processing, register, training
from tests.unit.local.test_jobs import SLEEPING, pid_of_job, processes_of

pytestmark = pytest.mark.slow

SCORE = """
import json, os, sys
from pathlib import Path
folder = Path(os.environ["ML_ROOT"], "processing/output/evaluation")
(folder / "evaluation.json").write_text(json.dumps({"score": {"value": float(sys.argv[1])}}))
"""


def engine_of(local: Any) -> int:
    """The only engine of this home."""
    for process in psutil.process_iter(["cmdline"]):
        with suppress(psutil.Error):  # another user's, or one that has just ended
            command = process.info["cmdline"] or []
            is_engine = "medloop.local.runner" in command and ":pipeline/" in command[-1]
            if is_engine and process.environ().get("MEDLOOP_HOME") == str(local.home):
                return int(process.pid)
    raise AssertionError("no engine runs")


def gated(local: Any) -> list[dict[str, Any]]:
    """Evaluate -> Gate -> Register | Fail, as the product's pipelines end."""
    evaluate = processing(
        "Evaluate",
        local.image(SCORE),
        outputs={"evaluation": f"s3://{BUCKET}/evaluation"},
        arguments=[{"Std:Join": {"On": "", "Values": [{"Get": "Parameters.Score"}]}}],
        PropertyFiles=[{"PropertyFileName": "evaluation", "OutputName": "evaluation", "FilePath": "evaluation.json"}],
    )
    score = {"Std:JsonGet": {"PropertyFile": {"Get": "Steps.Evaluate.PropertyFiles.evaluation"}, "Path": "score.value"}}
    message = {"Std:Join": {"On": " ", "Values": ["score", score, "is below 0.5"]}}
    gate = condition(
        "Gate", compare("GreaterThanOrEqualTo", score, 0.5), yes=[register("Register")], no=[fail("Stop", message)]
    )
    return [gate, evaluate]


PARAMETERS = [{"Name": "Score", "Type": "Float", "DefaultValue": 0.75}]


def test_gate_reads_the_property_file_both_ways(local: Any) -> None:
    """The score that a job wrote decides; steps listed before those they wait for run after them."""
    ended, steps = local.run(gated(local), PARAMETERS)
    assert ended["PipelineExecutionStatus"] == "Succeeded"
    assert list(steps) == ["Evaluate", "Gate", "Register"]
    ended, steps = local.run(gated(local), PARAMETERS, Score="0.25")
    assert ended["FailureReason"].endswith("Stop: score 0.25 is below 0.5")
    assert len(local.sagemaker.list_model_packages(ModelPackageType="Both")["ModelPackageSummaryList"]) == 1


def test_two_executions_at_once_both_end_well(local: Any) -> None:
    """Two engines share one home and lose nothing of each other."""
    arns = [local.start(gated(local), PARAMETERS) for _ in range(2)]
    assert [local.finish(arn)["PipelineExecutionStatus"] for arn in arns] == ["Succeeded", "Succeeded"]
    assert len(local.sagemaker.list_model_packages(ModelPackageType="Both")["ModelPackageSummaryList"]) == 2
    assert all(list(local.steps(arn)) == ["Evaluate", "Gate", "Register"] for arn in arns)


def test_step_waits_for_what_it_depends_on_and_failure_starts_nothing_new(local: Any) -> None:
    """The running sibling of a failed step ends by itself; what waits is never started."""
    slow = local.image("import time; time.sleep(1.5)")
    bad = local.image("import sys; sys.exit(1)")
    steps = [
        training("After", slow, DependsOn=["Slow"]),
        training("Slow", slow),
        training("Bad", bad),
    ]
    ended, steps_by_name = local.run(steps)
    assert ended["PipelineExecutionStatus"] == "Failed"
    assert ended["FailureReason"].startswith("Step failure: One or multiple steps failed. Bad: AlgorithmError: ")
    assert {name: step["StepStatus"] for name, step in steps_by_name.items()} == {"Slow": "Succeeded", "Bad": "Failed"}


def test_underscore_in_a_steps_name_is_a_hyphen_in_its_jobs(local: Any) -> None:
    """A step's name may hold underscores and a job's may not: the job runs all the same."""
    _, steps = local.run([processing("Score_it", local.image("print('scored')"))])
    assert steps["Score_it"]["StepStatus"] == "Succeeded"
    assert "-Score-it-" in steps["Score_it"]["Metadata"]["ProcessingJob"]["Arn"]


def test_execution_can_be_stopped(local: Any) -> None:
    """StopPipelineExecution ends the job and the execution, both Stopped; stopping again is refused."""
    arn = local.start([training("Train", local.image(SLEEPING)), training("Next", "never", DependsOn=["Train"])])
    pid_of_job(local)
    local.sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken="t" * 32)
    assert local.finish(arn)["PipelineExecutionStatus"] == "Stopped"
    assert {name: step["StepStatus"] for name, step in local.steps(arn).items()} == {"Train": "Stopped"}
    assert processes_of(local) == []
    with pytest.raises(local.sagemaker.exceptions.ClientError, match="it has ended"):
        local.sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken="u" * 32)


def test_stop_ends_all_branches_that_run(local: Any) -> None:
    """Two jobs at once: both are Stopped, their processes gone, and what waits for them never starts."""
    image = local.image(SLEEPING)
    steps = [training(name, image) for name in ("One", "Two")]
    arn = local.start([*steps, training("Next", "never", DependsOn=["One", "Two"])])
    wait_until(lambda: len([process for process in processes_of(local) if process.children()]) >= 2)
    local.sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken="t" * 32)
    assert local.finish(arn)["PipelineExecutionStatus"] == "Stopped"
    assert {name: step["StepStatus"] for name, step in local.steps(arn).items()} == {"One": "Stopped", "Two": "Stopped"}
    wait_until(lambda: processes_of(local) == [])


def test_killed_engine_is_recorded_by_the_next_reader(local: Any) -> None:
    """After kill -9 of the engine, execution, step and job are Failed and its processes gone; a new run works."""
    arn = local.start([training("Train", local.image(SLEEPING))])
    pid_of_job(local)
    os.kill(engine_of(local), signal.SIGKILL)
    wait_until(lambda: local.describe(arn)["PipelineExecutionStatus"] != "Executing")
    assert "engine died" in local.describe(arn)["FailureReason"]
    step = local.steps(arn)["Train"]
    assert (step["StepStatus"], "engine died" in step["FailureReason"]) == ("Failed", True)
    name = step["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
    assert local.sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "Failed"
    wait_until(lambda: processes_of(local) == [])
    assert not list((local.home / "jobs").iterdir())
    ended, _ = local.run(gated(local), PARAMETERS)
    assert ended["PipelineExecutionStatus"] == "Succeeded"


def test_sdk_upserts_and_starts(local: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own Pipeline creates, updates, starts and lists on a local session (its IAM role check off)."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    from sagemaker.core.workflow.pipeline_context import PipelineSession
    from sagemaker.mlops.workflow.fail_step import FailStep
    from sagemaker.mlops.workflow.pipeline import Pipeline

    session = PipelineSession(boto_session=local.boto, default_bucket=BUCKET)
    for message in ("one", "two"):
        pipeline = Pipeline(
            "sdk",
            steps=[FailStep("Stop", error_message=message)],
            sagemaker_session=session,
            pipeline_experiment_config=None,
        )
        monkeypatch.setenv("SAGEMAKER_VALIDATE_ROLE", "false")
        pipeline.upsert("arn:aws:iam::000000000000:role/medloop-local", tags=[{"Key": "a", "Value": "b"}])
    assert json.loads(pipeline.describe()["PipelineDefinition"])["Steps"][0]["Arguments"] == {"ErrorMessage": "two"}
    execution = pipeline.start()
    ended = local.finish(execution.arn)
    assert ended["FailureReason"].endswith("Stop: two")
    assert [step["StepName"] for step in execution.list_steps()] == ["Stop"]
