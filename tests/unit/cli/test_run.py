"""`medloop run` against an account of the test's: the requests to the service, and what is printed."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

DATA = {"s3://bucket/data/b.png": b"bb", "s3://bucket/data/a.png": b"a"}
TRAINING = {"TrainingJob": {"Arn": "x/t-1"}}
STEPS = json.dumps(
    {
        "Version": "2020-12-01",
        "Parameters": [],
        "Steps": [
            {"Name": "Evaluate", "Type": "Processing", "Arguments": {}},
            {"Name": "Gate", "Type": "Condition", "Arguments": {"Conditions": [], "IfSteps": [], "ElseSteps": []}},
        ],
    }
)
"""A definition of two steps."""


@pytest.fixture
def data(account: Any) -> str:
    """A data set on S3."""
    account.objects.update(DATA)
    return "s3://bucket/data"


def started(account: Any) -> dict[str, str]:
    """The parameters of the started execution."""
    (request,) = [request for call, request in account.calls if call == "start"]
    return {p["Name"]: p["Value"] for p in request["PipelineParameters"]}


def test_no_wait_upserts_then_starts(medloop: Any, account: Any, data: str) -> None:
    """The pipeline is updated before it starts; InputData, DataVersion and --param reach the start."""
    code = medloop("run", "classification", "--data", data, "--param", "Epochs=2", "--no-wait", "--json")

    assert code == 0
    assert [call for call, _ in account.calls] == ["upsert", "start"]
    parameters = started(account)
    assert (parameters["InputData"], parameters["Epochs"]) == (f"{data}/", "2")
    assert len(parameters["DataVersion"]) == 64
    assert medloop.json["id"] == "fresh0000000"


def test_the_version_that_was_put_is_started(medloop: Any, account: Any, data: str) -> None:
    """Not the newest, which may be another run's by now; where the service tells no version, its newest."""
    versions = []
    for medloop.version in (7, None):
        account.calls.clear()
        assert medloop("run", "classification", "--data", data, "--no-wait") == 0
        (request,) = [request for call, request in account.calls if call == "start"]
        versions.append(request.get("PipelineVersionId", "newest"))
    assert versions == [7, "newest"]


@pytest.mark.slow
def test_missing_card_fields_are_reported_before_the_start(medloop: Any, data: str) -> None:
    """By name, with the version's status and the fix; a preset that has all five prints nothing."""
    for command in (("run", "classification", "--data", data, "--no-wait"), ("pipelines", "upsert", "classification")):
        assert medloop(*command, "--set", "registration.annotators=two readers") == 0, medloop.err
        assert "registration.reference_standard not stated: the version will be registered as Rejected" in medloop.err
        assert "annotators" not in medloop.err
        assert medloop(*command, "--preset", "lab-00-baseline") == 0
        assert "not stated" not in medloop.err


@pytest.mark.parametrize("ending", ["", "/", "//"])
def test_sibling_prefix_is_no_part_of_the_data(medloop: Any, account: Any, data: str, ending: str) -> None:
    """`data` takes in no `data2`: DataVersion ignores it, and InputData ends in a slash, for jobs read key prefixes."""
    versions = []
    for _ in range(2):
        account.calls.clear()
        assert medloop("run", "classification", "--data", data + ending, "--no-wait") == 0
        assert started(account)["InputData"] == "s3://bucket/data/"
        versions.append(started(account)["DataVersion"])
        account.objects["s3://bucket/data2/c.png"] = b"c"
    assert versions[0] == versions[1]


def test_data_version_follows_content_not_order(medloop: Any, account: Any, data: str) -> None:
    """The same keys, sizes and ETags give the same DataVersion in any order; another ETag gives another."""
    versions = []
    for objects in (DATA, dict(reversed(DATA.items())), {**DATA, "s3://bucket/data/a.png": b"x"}):
        account.objects.clear()
        account.objects.update(objects)
        account.calls.clear()
        assert medloop("run", "classification", "--data", data, "--no-wait") == 0
        versions.append(started(account)["DataVersion"])

    assert versions[0] == versions[1] != versions[2]


def test_follow_prints_changes_and_epochs_then_the_outcome(
    medloop: Any, account: Any, data: str, request: pytest.FixtureRequest
) -> None:
    """Without a terminal: one line a state change and one an epoch on stderr; score, report and model on stdout."""
    arn = request.getfixturevalue("finished")
    complete = account.steps[arn]
    log = account.logs.pop("t-1/algo-1")
    account.start_pipeline_execution = lambda **_: {"PipelineExecutionArn": arn}
    account.executions[arn]["PipelineExecutionStatus"] = "Executing"
    account.steps[arn] = [{**complete[0], "StepStatus": "Executing"}]

    def later() -> None:
        if "t-1/algo-1" not in account.logs:
            account.logs["t-1/algo-1"] = log
        else:
            account.steps[arn] = complete
            account.executions[arn]["PipelineExecutionStatus"] = "Succeeded"

    medloop.on_sleep = later
    assert medloop("run", "classification", "--data", data) == 0

    said = [line.split(maxsplit=1)[1] for line in medloop.err.splitlines() if re.match(r" *\d+:", line)]
    assert said[:3] == ["Train: Executing", "Train: epoch=1; val_auroc=0.5;", "Train: epoch=2; val_auroc=0.7;"]
    assert "Gate: Succeeded, the condition is true after 0:30" in said
    assert "macro_auroc 0.8750 on 2 test patients" in medloop.out
    assert "two test patients prove little" in medloop.out
    assert "g/1  PendingManualApproval" in medloop.out
    assert "medloop models show g/1" in medloop.out


def failing(account: Any, job: dict[str, Any], reason: str) -> None:
    """Let the next execution fail in its training job."""
    arn = account.add_execution("bad", "Failed", FailureReason="Step failure")
    account.add_step(arn, "Train", "Failed", TRAINING, FailureReason=reason)
    account.jobs["t-1"] = job
    account.start_pipeline_execution = lambda **_: {"PipelineExecutionArn": arn}


@pytest.mark.parametrize(
    ("job", "code"),
    [
        ({"FailureReason": "AlgorithmError: label.nii.gz is cut short, exit code: 2"}, 2),
        ({"FailureReason": "AlgorithmError: see log", "ExitMessage": "DataError: img.png is no image"}, 2),
        ({"FailureReason": "AlgorithmError: IndexError: 3, exit code: 1"}, 1),
        ({"FailureReason": "AlgorithmError: killed, exit code: 25"}, 1),
    ],
)
def test_a_users_error_inside_a_job_exits_2(
    medloop: Any, account: Any, data: str, job: dict[str, Any], code: int
) -> None:
    """A job that exited 2 gives 2, another failure 1; the step, its reason and its log are printed."""
    failing(account, job, "ClientError: job failed")

    assert medloop("run", "classification", "--data", data) == code

    last = medloop.err.splitlines()[-1]
    assert last.startswith("error: step Train: ")
    assert next(iter(job.values())).split(": ")[0] in last or job["ExitMessage"] in last
    assert "medloop executions logs bad Train" in medloop.out


def test_a_refusing_gate_exits_1_with_its_words(medloop: Any, account: Any, data: str) -> None:
    """An execution that the gate ended: exit code 1 and the Fail step's message, the score still shown."""
    arn = account.add_execution("low", "Failed", FailureReason="Step failure")
    account.add_step(arn, "Fail", "Failed", {"Fail": {"ErrorMessage": "m"}}, FailureReason="Score 0.4 is below 0.8")
    account.start_pipeline_execution = lambda **_: {"PipelineExecutionArn": arn}

    assert medloop("run", "classification", "--data", data) == 1

    assert medloop.err.splitlines()[-1] == "error: step Fail: Score 0.4 is below 0.8"
    assert "model" not in medloop.out


@pytest.mark.slow
def test_interrupting_leaves_the_execution_alone(medloop: Any, account: Any, data: str) -> None:
    """Ctrl-C while following: exit code 130, the execution continues, and the user learns how to follow it."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    medloop.on_sleep = interrupt
    assert medloop("run", "classification", "--data", data) == 130

    assert [call for call, _ in account.calls] == ["upsert", "start"]
    assert "continues" in medloop.err
    assert "medloop executions logs fresh0000000 --follow" in medloop.err


def test_json_is_the_only_thing_on_stdout(medloop: Any, account: Any, data: str, finished: str) -> None:
    """`run --json` prints one document: the outcome with score, report and model."""
    account.start_pipeline_execution = lambda **_: {"PipelineExecutionArn": finished}

    assert medloop("run", "classification", "--data", data, "--json") == 0

    assert medloop.json["score"]["value"] == 0.875
    assert medloop.json["model"] == "g/1"
    assert json.dumps(medloop.json)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense", "--data", "s3://bucket/data"], "pipeline 'nonsense' is unknown"),
        (["classification"], "Missing option '--data'"),
        (["classification", "--data", "s3://bucket/none"], "--data s3://bucket/none: has no files"),
        (["classification", "--data", "/nowhere/at all"], "--data /nowhere/at all: is not a folder"),
        (["classification", "--data", ""], "--data is empty"),
        (["classification", "--data", " ", "--no-check"], "--data is empty"),
        (["classification", "--data", "s3://bucket/data", "--set", "train.epoch=3"], "--set train.epoch"),
        (["classification", "--data", "s3://bucket/data", "--set", "Epochs=3"], "write --param Epochs=3"),
        (["classification", "--data", "s3://bucket/data", "--param", "Epochs=many"], "Epochs=many"),
        (["classification", "--data", "s3://bucket/data", "--param", "split.seed=1"], "write --set split.seed=1"),
        (["classification", "--data", "s3://bucket/data", "--preset", "nope"], "preset 'nope' is unknown"),
    ],
)
def test_wrong_requests_are_one_line_and_start_nothing(
    medloop: Any, account: Any, data: str, arguments: list[str], said: str
) -> None:
    """Every wrong argument: one line that names it, exit code 2, no call that changes anything."""
    assert medloop("run", *arguments) == 2

    assert said in medloop.err
    assert medloop.err.count("\n") == 1
    assert account.calls == []
    assert not medloop.home.exists()


def test_a_folder_for_aws_is_refused_with_the_upload(medloop: Any, account: Any, tmp_path: Any) -> None:
    """On AWS a folder of this machine is refused with the command that uploads it."""
    code = medloop("run", "classification", "--data", str(tmp_path), "--target", "aws", "--no-check")

    assert code == 2
    assert "medloop data upload" in medloop.err
    assert account.calls == []


def test_a_home_below_a_file_is_refused(medloop: Any, data: str, tmp_path: Any) -> None:
    """A home folder below a regular file can't be made: one line that names that file, exit code 2."""
    file = tmp_path / "file"
    file.write_text("x")

    assert medloop("run", "classification", "--data", data, "--home", str(file / "home")) == 2

    assert f"{file} is a file" in medloop.err
    assert file.read_text() == "x"


def test_hints_lead_to_the_same_home(medloop: Any, account: Any, data: str, tmp_path: Any) -> None:
    """Where --home is not the default, the commands that are proposed bear it, quoted for the shell."""
    home = tmp_path / "my home"

    assert medloop("run", "classification", "--data", data, "--no-wait", "--home", str(home)) == 0
    assert f"show fresh0000000 --home '{home}'" in medloop.out
    assert medloop("run", "classification", "--data", data, "--no-wait") == 0
    assert "--home" not in medloop.out


def test_only_some_steps_run_on_another_executions_results(medloop: Any, account: Any, data: str) -> None:
    """--only selects steps; their source is the newest execution of this pipeline, or the one that --from names."""
    old = account.add_execution("old", "Failed")
    new = account.add_execution("new", "Succeeded")
    account.add_execution("other", "Succeeded", pipeline="segmentation")
    medloop.built = STEPS
    for source, expected in (((), new), (("--from", "old"), old)):
        account.calls.clear()
        argv = ("--only", "Evaluate", "--only", "Gate", *source, "--no-wait")
        assert medloop("run", "classification", "--project", "", "--data", data, *argv) == 0
        (request,) = [request for call, request in account.calls if call == "start"]
        assert request["SelectiveExecutionConfig"] == {
            "SelectedSteps": [{"StepName": "Evaluate"}, {"StepName": "Gate"}],
            "SourcePipelineExecutionArn": expected,
        }
        account.executions.pop(f"{new.rpartition('/')[0]}/fresh0000000")
    assert medloop("run", "classification", "--data", data, "--from", "old") == 2
    assert "--from needs --only" in medloop.err


def test_a_step_that_there_is_not_is_refused_before_anything_changes(medloop: Any, account: Any, data: str) -> None:
    """One line that names the steps there are; the pipeline is neither updated nor started."""
    account.add_execution("old", "Succeeded")
    medloop.built = STEPS
    assert medloop("run", "classification", "--data", data, "--only", "Evaluate", "--only", "Nope", "--no-wait") == 2
    assert medloop.err.splitlines()[-1] == (
        "error: --only Nope: pipeline classification-data has no such step; it has: Evaluate, Gate"
    )
    assert account.calls == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--runtime", "container", "--target", "aws"], "--runtime: is for --target local"),
        (["--runtime", "podman"], "no container engine works here (tried podman)"),
    ],
)
def test_a_runtime_that_cannot_be_used_starts_nothing(
    medloop: Any, account: Any, data: str, monkeypatch: pytest.MonkeyPatch, options: list[str], reason: str
) -> None:
    """Before anything is stored, in one line."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("MEDLOOP_RUNTIME", "process")
    assert medloop("run", "classification", "--data", data, *options) == 2
    assert reason in medloop.err
    assert account.calls == []
