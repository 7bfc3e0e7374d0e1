"""`medloop executions` against an account of the test's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medloop.cli import main


def test_list_shows_the_newest_first(medloop: Any, account: Any) -> None:
    """Executions of all pipelines come as one list, the newest first, with whole ARNs in JSON."""
    account.add_execution("aaa", "Succeeded")
    arn = account.add_execution("bbb", "Failed", pipeline="segmentation", FailureReason="gate")

    assert medloop("executions", "list", "--json") == 0

    assert [row["id"] for row in medloop.json] == ["bbb", "aaa"]
    assert medloop.json[0] | {"started": None} == {
        "id": "bbb",
        "pipeline": "segmentation",
        "status": "Failed",
        "started": None,
        "reason": "gate",
        "arn": arn,
    }


def test_list_of_one_pipeline(medloop: Any, account: Any) -> None:
    """A pipeline's name narrows the list to its executions."""
    account.add_execution("aaa", "Succeeded")
    account.add_execution("bbb", "Failed", pipeline="segmentation")

    assert medloop("executions", "list", "classification") == 0

    assert "aaa" in medloop.out
    assert "bbb" not in medloop.out


def test_list_of_a_pipeline_that_never_ran_is_empty(medloop: Any, account: Any) -> None:
    """It is no error, on stdout an empty list, and the name is printed, because it may be misspelt."""
    account.add_execution("aaa", "Succeeded", pipeline="segmentation")

    assert medloop("executions", "list", "classification", "--json") == 0
    assert medloop.json == []
    assert medloop("executions", "list", "classification") == 0
    assert "no executions of pipeline 'classification' yet" in medloop.err


def test_list_of_a_misspelt_pipeline_names_those_there_are(medloop: Any, account: Any) -> None:
    """A name that is neither on the target nor installed is a user's error; one that was only upserted is none."""
    account.add_execution("aaa", "Succeeded", pipeline="of-mine")

    assert medloop("executions", "list", "clasification", "--json") == 2

    assert "no pipeline 'clasification'; there are: classification, of-mine, segmentation" in medloop.err
    assert medloop.out == ""
    assert medloop("executions", "list", "of-mine") == 0


def test_an_empty_home_is_refused(medloop: Any) -> None:
    """An empty --home (an unset variable in a script) isn't the current folder."""
    assert medloop("executions", "list", "--home", "") == 2
    assert "'--home'" in medloop.err
    assert "is empty; give a folder" in medloop.err


def test_looking_makes_no_home(tmp_path: Path) -> None:
    """`executions list`, `executions show` and `models list` in a fresh folder leave no trace."""
    home = tmp_path / "home"
    looks = {"executions list": 0, "executions show latest": 2, "models list": 0}
    assert {look: main([*look.split(), "--home", str(home)]) for look in looks} == looks
    assert not home.exists()


def test_show_prints_whole_lines_into_a_pipe(medloop: Any, finished: str) -> None:
    """Where stdout is no terminal nothing is cut or wrapped: the ARN stands on one line."""
    assert medloop("executions", "show", finished) == 0

    assert finished in medloop.out
    lines = {line.split()[0]: line for line in medloop.out.splitlines() if line.strip()}
    assert lines["Epochs"].split() == ["Epochs", "3"]
    assert lines["Train"].split() == ["Train", "Succeeded", "0:30", "t-1"]
    assert lines["Gate"].split() == ["Gate", "Succeeded", "0:30", "-", "condition:", "true"]
    assert "took" in lines
    assert lines["took"].split() == ["took", "1:35"]


def test_show_json_holds_steps_in_order(medloop: Any, finished: str) -> None:
    """The JSON form tells steps in the order in which they started, with jobs and parameters."""
    assert medloop("executions", "show", "abc", "--json") == 0

    assert medloop.json["arn"] == finished
    assert medloop.json["parameters"] == {"Epochs": "3"}
    assert [s["name"] for s in medloop.json["steps"]] == ["Train", "Evaluate", "Gate", "Register-RegisterModel"]
    assert medloop.json["steps"][0]["job"]["name"] == "t-1"


def test_latest_is_the_newest(medloop: Any, account: Any) -> None:
    """`latest` stands for the execution that started last."""
    account.add_execution("aaa", "Succeeded")
    account.add_execution("bbb", "Failed")

    assert medloop("executions", "show", "latest", "--json") == 0

    assert medloop.json["id"] == "bbb"


@pytest.mark.parametrize(
    ("identifier", "said"),
    [
        ("ab", "not unique: abd, abc"),
        ("zz", "medloop executions list"),
        ("", "id is empty"),
    ],
)
def test_an_id_that_fits_not_one_execution_is_refused(medloop: Any, account: Any, identifier: str, said: str) -> None:
    """An ambiguous or unknown id is one line and exit code 2."""
    account.add_execution("abc", "Succeeded")
    account.add_execution("abd", "Succeeded")

    assert medloop("executions", "show", identifier) == 2

    assert said in medloop.err
    assert medloop.err.count("\n") == 1
    assert medloop.out == ""


def test_logs_of_all_jobs_stand_under_their_steps(medloop: Any, finished: str) -> None:
    """Without a step, every job's log is printed whole under the step's name."""
    assert medloop("executions", "logs", "abc") == 0

    assert medloop.out.splitlines() == [
        "== Train ==",
        "hello",
        "epoch=1; val_auroc=0.5;",
        "epoch=2; val_auroc=0.7;",
        "== Evaluate ==",
        "scored",
    ]


def test_logs_of_one_step_are_the_bare_lines(medloop: Any, finished: str) -> None:
    """With a step, its lines come unchanged; the step's name may be in any case."""
    assert medloop("executions", "logs", "abc", "evaluate") == 0

    assert medloop.out == "scored\n"


@pytest.mark.parametrize(
    ("step", "said"), [("Trian", "has no step 'Trian'; it has: Train, Evaluate"), ("Gate", "runs no job")]
)
def test_logs_of_no_job_are_refused(medloop: Any, finished: str, step: str, said: str) -> None:
    """A step that doesn't exist or runs no job is named, with exit code 2."""
    assert medloop("executions", "logs", "abc", step) == 2

    assert said in medloop.err


def test_logs_follow_reads_on_until_the_end(medloop: Any, account: Any) -> None:
    """`--follow` prints each line once, also those that come while it waits, and ends with the execution."""
    arn = account.add_execution("aaa", "Executing")
    account.add_step(arn, "Train", "Executing", {"TrainingJob": {"Arn": "x/t-1"}})

    def later() -> None:
        account.logs.setdefault("t-1/algo-1", []).append(f"line {len(account.logs['t-1/algo-1'])}")
        if len(account.logs["t-1/algo-1"]) == 3:
            account.executions[arn]["PipelineExecutionStatus"] = "Succeeded"

    medloop.on_sleep = later
    assert medloop("executions", "logs", "aaa", "--follow") == 0

    assert medloop.out.splitlines() == ["== Train ==", "line 0", "line 1", "line 2"]


def test_stop_asks_the_service(medloop: Any, account: Any) -> None:
    """`stop` asks the service to stop exactly this execution."""
    arn = account.add_execution("aaa", "Executing")

    assert medloop("executions", "stop", "aaa") == 0

    assert account.calls == [("stop", {"PipelineExecutionArn": arn})]


def test_stop_and_logs_as_json(medloop: Any, account: Any, finished: str) -> None:
    """`--json` gives the lines by step, and what was stopped."""
    assert medloop("executions", "logs", "abc", "--json") == 0
    train = ["hello", "epoch=1; val_auroc=0.5;", "epoch=2; val_auroc=0.7;"]
    assert medloop.json == {"Train": train, "Evaluate": ["scored"]}
    arn = account.add_execution("xyz", "Executing")
    assert medloop("executions", "stop", "xyz", "--json") == 0
    assert medloop.json == {"id": "xyz", "arn": arn}


def test_retry_asks_the_service_and_follows(medloop: Any, account: Any) -> None:
    """`retry` resumes exactly this execution, and ends as it does; `--no-wait` doesn't wait for it."""
    arn = account.add_execution("aaa", "Failed")
    medloop.on_sleep = lambda: account.executions[arn].update(PipelineExecutionStatus="Succeeded")

    assert medloop("executions", "retry", "aaa") == 0

    assert account.calls == [("retry", {"PipelineExecutionArn": arn})]
    assert "execution aaa Succeeded" in medloop.out
    assert medloop("executions", "retry", "aaa", "--no-wait", "--json") == 0
    assert medloop.json == {"id": "aaa", "arn": arn}


@pytest.mark.parametrize(("metadata", "printed"), [({"TrainingJob": {"Arn": "x/t-1"}}, True), ({"Fail": {}}, False)])
def test_the_command_that_resumes_is_printed(medloop: Any, account: Any, metadata: Any, printed: bool) -> None:
    """A failed execution's outcome names `executions retry`, unless a Fail step ended it."""
    arn = account.add_execution("aaa", "Failed")
    account.add_step(arn, "Last", "Failed", metadata, FailureReason="AlgorithmError: bad")
    account.jobs["t-1"] = {}
    medloop.on_sleep = lambda: account.executions[arn].update(PipelineExecutionStatus="Failed")

    assert medloop("executions", "retry", "aaa") == 1

    assert ("medloop executions retry aaa" in medloop.out) == printed


def test_results_of_earlier_executions_are_named(medloop: Any, account: Any) -> None:
    """A cached or unselected step names its source, also when its log is requested; retries are counted."""
    arn = account.add_execution("aaa", "Succeeded")
    source = {"SourcePipelineExecutionArn": f"{arn[:-3]}old"}
    job = {"TrainingJob": {"Arn": "x/t-1"}}
    account.add_step(arn, "Split", "Succeeded", job, SelectiveExecutionResult=source)
    account.add_step(arn, "Train", "Succeeded", job, CacheHitResult=source)
    account.add_step(arn, "Evaluate", "Succeeded", AttemptCount=3)
    account.logs["t-1/algo-1"] = ["of the earlier run"]

    assert medloop("executions", "show", "aaa") == 0

    lines = {line.split()[0]: line for line in medloop.out.splitlines() if line.strip()}
    assert lines["Split"].endswith("not selected: as in execution old")
    assert lines["Train"].endswith("from the cache of execution old")
    assert lines["Evaluate"].endswith("attempt 3")
    assert medloop("executions", "logs", "aaa", "train") == 2
    assert "medloop executions logs old Train" in medloop.err
    assert medloop("executions", "logs", "aaa") == 0
    assert medloop.out == ""
