"""RetryPipelineExecution and selective execution, through real executions."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from medloop.local.processes import alive, identity
from medloop.local.state.home import BUCKET, ROLE_ARN, Home
from tests.unit.local.conftest import wait_until
from tests.unit.local.steps import compare, condition, fail, processing, register, training
from tests.unit.local.test_engine import engine_of
from tests.unit.local.test_jobs import SLEEPING, pid_of_job, processes_of

MAKE = """
import json, os, sys
from pathlib import Path
folder = Path(os.environ["ML_ROOT"], "processing/output/made")
(folder / "score.json").write_text(json.dumps({"score": 0.75}))
"""
TRAIN_IF = """
import os, sys
from pathlib import Path
root = Path(os.environ["ML_ROOT"])
if not any((root / "input/data/switch").glob("on*")):
    sys.exit("not yet")
(root / "model/weights").write_text((root / "input/data/made/score.json").read_text())
"""


def chain(local: Any) -> list[dict[str, Any]]:
    """Make -> Train -> Gate -> Register; Train succeeds once `s3://BUCKET/switch/on` is there."""
    local.s3.put_object(Bucket=BUCKET, Key="switch/off", Body=b"")
    identifier = {"Get": "Execution.PipelineExecutionId"}
    below = {"Std:Join": {"On": "/", "Values": [f"s3://{BUCKET}/runs", identifier]}}
    make = processing(
        "Make",
        local.image(MAKE),
        outputs={"made": {"Std:Join": {"On": "/", "Values": [below, "made"]}}},
        PropertyFiles=[{"PropertyFileName": "score", "OutputName": "made", "FilePath": "score.json"}],
    )
    made = {"Get": "Steps.Make.ProcessingOutputConfig.Outputs['made'].S3Output.S3Uri"}
    train = training("Train", local.image(TRAIN_IF), {"made": made, "switch": f"s3://{BUCKET}/switch/"})
    score = {"Std:JsonGet": {"PropertyFile": {"Get": "Steps.Make.PropertyFiles.score"}, "Path": "score"}}
    model = {"Image": "image", "ModelDataUrl": {"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"}}
    package = register(
        "Register",
        InferenceSpecification={
            "Containers": [model],
            "SupportedContentTypes": ["image/png"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
    )
    gate = condition(
        "Gate", compare("GreaterThan", score, {"Get": "Parameters.Bar"}), yes=[package], no=[fail("No", "bad")]
    )
    return [make, train, {**gate, "DependsOn": ["Train"]}]


PARAMETERS = [{"Name": "Bar", "Type": "Float", "DefaultValue": 0.5}]


def retry(local: Any, arn: str, letter: str = "r") -> None:
    """RetryPipelineExecution."""
    response = local.sagemaker.retry_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=letter * 32)
    assert response["PipelineExecutionArn"] == arn


def switch_on(local: Any) -> None:
    """Let Train succeed from now on."""
    local.s3.put_object(Bucket=BUCKET, Key="switch/on", Body=b"")


def states(local: Any, arn: str) -> dict[str, str]:
    """State by step."""
    return {name: step["StepStatus"] for name, step in local.steps(arn).items()}


@pytest.mark.slow
def test_retry_resumes_from_the_failed_step(local: Any) -> None:
    """Make keeps its job, Train runs again and is counted; a success can't be retried, the same token counts once."""
    arn = local.start(chain(local), PARAMETERS)
    assert "FailureReason" in local.finish(arn)
    assert states(local, arn) == {"Make": "Succeeded", "Train": "Failed"}
    before = local.steps(arn)
    switch_on(local)
    retry(local, arn)
    retry(local, arn)  # the same request once more
    ended = local.finish(arn)
    assert (ended["PipelineExecutionStatus"], "FailureReason" in ended) == ("Succeeded", False)
    after = local.steps(arn)
    assert after["Make"] == before["Make"]
    assert after["Train"]["Metadata"] != before["Train"]["Metadata"]
    assert (after["Train"]["AttemptCount"], "FailureReason" in after["Train"]) == (2, False)
    assert list(after) == ["Make", "Train", "Gate", "Register"]
    assert ended["CreationTime"] < after["Train"]["StartTime"]
    with pytest.raises(ClientError, match=r"'Failed' or 'Stopped' status can be retried; .* has the status Succeeded"):
        retry(local, arn, "s")


@pytest.mark.slow
def test_of_two_retries_at_once_one_is_refused(local: Any) -> None:
    """Two people retry the same execution: one engine resumes, the other retry is refused because it runs."""
    arn = local.start(chain(local), PARAMETERS)
    assert local.finish(arn)["PipelineExecutionStatus"] == "Failed"
    switch_on(local)

    def try_it(letter: str) -> str:
        try:
            retry(local, arn, letter)
        except ClientError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(2) as pool:
        refusals = sorted(pool.map(try_it, "ab"))
    assert refusals[0] == ""
    assert "has the status Executing" in refusals[1]
    assert local.finish(arn)["PipelineExecutionStatus"] == "Succeeded"
    assert {name: step["AttemptCount"] for name, step in local.steps(arn).items()}["Train"] == 2
    assert len(local.sagemaker.list_training_jobs()["TrainingJobSummaries"]) == 2


@pytest.mark.slow
def test_no_retry_after_fail_nor_while_running(local: Any) -> None:
    """The service's ValidationException, with the Fail step's name; a running execution stays as it is."""
    switch_on(local)
    arn = local.start(chain(local), PARAMETERS, Bar="0.9")
    local.finish(arn)
    with pytest.raises(ClientError, match="ended by its Fail step No and can't be retried") as refusal:
        retry(local, arn)
    assert refusal.value.response["Error"]["Code"] == "ValidationException"
    running = local.start([training("Sleep", local.image(SLEEPING))])
    with pytest.raises(ClientError, match="has the status Executing"):
        retry(local, running)
    pid_of_job(local)
    local.sagemaker.stop_pipeline_execution(PipelineExecutionArn=running)
    assert local.finish(running)["PipelineExecutionStatus"] == "Stopped"


@pytest.mark.slow
def test_killed_and_stopped_executions_go_on(local: Any) -> None:
    """After kill -9 of the engine a retry ends what it left and resumes; so does one after a stop."""
    steps = chain(local)
    steps[1]["Arguments"]["AlgorithmSpecification"]["TrainingImage"] = local.image(
        "import sys, os\nfrom pathlib import Path\n"
        "if any((Path(os.environ['ML_ROOT']) / 'input/data/switch').glob('on*')): sys.exit(0)\n" + SLEEPING
    )
    arn = local.start(steps, PARAMETERS)
    wait_until(lambda: states(local, arn).get("Train") == "Executing" and processes_of(local))
    engine = identity(engine_of(local))
    os.kill(engine["pid"], signal.SIGKILL)
    wait_until(lambda: not alive(engine, Home(local.home)))  # a killed process is there for a moment still
    retry(local, arn)  # before anyone has looked
    wait_until(lambda: states(local, arn).get("Train") == "Executing" and processes_of(local))
    assert local.describe(arn)["PipelineExecutionStatus"] == "Executing"
    local.sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
    assert local.finish(arn)["PipelineExecutionStatus"] == "Stopped"
    switch_on(local)
    retry(local, arn, "s")
    assert local.finish(arn)["PipelineExecutionStatus"] == "Succeeded"
    assert local.steps(arn)["Train"]["AttemptCount"] == 3
    assert len(local.sagemaker.list_processing_jobs()["ProcessingJobSummaries"]) == 1


def select(local: Any, source: str | None, *names: str) -> str:
    """Start the only pipeline selectively."""
    config: dict[str, Any] = {"SelectedSteps": [{"StepName": name} for name in names]}
    if source:
        config["SourcePipelineExecutionArn"] = source
    (pipeline,) = local.sagemaker.list_pipelines()["PipelineSummaries"]
    response = local.sagemaker.start_pipeline_execution(
        PipelineName=pipeline["PipelineName"], SelectiveExecutionConfig=config
    )
    return str(response["PipelineExecutionArn"])


@pytest.mark.slow
def test_selected_steps_run_on_the_results_of_another_execution(local: Any) -> None:
    """Train alone runs on Make's output of a failed source; the record names it; what lies downstream doesn't run."""
    source = local.start(chain(local), PARAMETERS)
    assert local.finish(source)["PipelineExecutionStatus"] == "Failed"
    switch_on(local)
    arn = select(local, source, "Train")
    ended = local.finish(arn)
    assert ended["PipelineExecutionStatus"] == "Succeeded", ended
    assert ended["SelectiveExecutionConfig"]["SelectedSteps"] == [{"StepName": "Train"}]
    records = local.steps(arn)
    assert list(records) == ["Make", "Train"]
    assert records["Make"]["SelectiveExecutionResult"] == {"SourcePipelineExecutionArn": source}
    assert records["Make"]["Metadata"] == local.steps(source)["Make"]["Metadata"]
    further = select(local, arn, "Gate", "Register")
    assert local.finish(further)["PipelineExecutionStatus"] == "Succeeded"
    assert local.steps(further)["Make"]["SelectiveExecutionResult"] == {"SourcePipelineExecutionArn": source}
    again = select(local, further, "Register")  # its condition was taken in the source
    assert local.finish(again)["PipelineExecutionStatus"] == "Succeeded"
    assert len(local.sagemaker.list_model_packages(ModelPackageType="Both")["ModelPackageSummaryList"]) == 2


@pytest.mark.slow
def test_selections_that_cannot_run_are_refused(local: Any) -> None:
    """A gap, an unknown step, no source, a source without the result, and a branch not taken: each named."""
    switch_on(local)
    refused = local.start(chain(local), PARAMETERS, Bar="0.9")
    local.finish(refused)
    cases: dict[str, tuple[Any, ...]] = {
        "are no steps of the pipeline": (refused, "Train", "Nothing"),
        "step Train is on a path between": (refused, "Make", "Gate"),
        r"SourcePipelineExecutionArn: null. The selected steps \[Train\] have dependencies on \[Make\]": (
            None,
            "Train",
        ),
        "Register runs only where Gate is True": (refused, "Register"),
        "does not exist": (refused[:-3] + "zzz", "Train"),
    }
    for message, (source, *names) in cases.items():
        with pytest.raises(ClientError, match=message) as refusal:
            select(local, source, *names)
        assert refusal.value.response["Error"]["Code"] == "ValidationException"
    assert local.finish(select(local, None, "Make"))["PipelineExecutionStatus"] == "Succeeded"


def test_versions_are_kept_and_can_be_started(local: Any) -> None:
    """Each update makes a version; an old one is described, renamed and run, and the list names its last execution."""
    definitions = [json.dumps({"Version": "2020-12-01", "Steps": [fail("Stop", text)]}) for text in ("one", "two")]
    client = local.sagemaker
    client.create_pipeline(PipelineName="p", PipelineDefinition=definitions[0], RoleArn=ROLE_ARN)
    assert client.update_pipeline(PipelineName="p", PipelineDefinition=definitions[1])["PipelineVersionId"] == 2
    assert client.describe_pipeline(PipelineName="p", PipelineVersionId=1)["PipelineDefinition"] == definitions[0]
    assert client.describe_pipeline(PipelineName="p")["PipelineDefinition"] == definitions[1]
    with pytest.raises(ClientError, match="version 3 of") as missing:
        client.describe_pipeline(PipelineName="p", PipelineVersionId=3)
    assert missing.value.response["Error"]["Code"] == "ResourceNotFound"
    old = client.start_pipeline_execution(PipelineName="p", PipelineVersionId=1)["PipelineExecutionArn"]
    assert local.finish(old)["FailureReason"].endswith("Stop: one")
    assert local.describe(old)["PipelineVersionId"] == 1
    definition = client.describe_pipeline_definition_for_execution(PipelineExecutionArn=old)["PipelineDefinition"]
    assert definition == definitions[0]
    pipeline = client.describe_pipeline(PipelineName="p")["PipelineArn"]
    client.update_pipeline_version(PipelineArn=pipeline, PipelineVersionId=1, PipelineVersionDisplayName="first")
    listed = client.list_pipeline_versions(PipelineName="p", SortOrder="Descending")["PipelineVersionSummaries"]
    assert [version["PipelineVersionId"] for version in listed] == [2, 1]
    assert (listed[1]["PipelineVersionDisplayName"], listed[1]["LastExecutionPipelineExecutionArn"]) == ("first", old)
    client.delete_pipeline(PipelineName="p")
    client.create_pipeline(PipelineName="p", PipelineDefinition=definitions[0], RoleArn=ROLE_ARN)
    assert len(client.list_pipeline_versions(PipelineName="p")["PipelineVersionSummaries"]) == 1
