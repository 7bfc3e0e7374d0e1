"""Tuning jobs of the local backend: strategies, parallel jobs, early stopping, warm start, and how they end."""

from __future__ import annotations

import os
import signal
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from medloop.local.state.home import BUCKET, ROLE_ARN
from tests.unit.local.conftest import Local, wait_until
from tests.unit.local.steps import processing

SCORER = """
    import json, os, pathlib, time
    root = pathlib.Path(os.environ["ML_ROOT"])
    given = json.loads((root / "input/config/hyperparameters.json").read_text())
    rate, filters = float(given.get("rate", 0.1)), given.get("filters", "8")
    if given.get("broken") == filters:
        (root / "output/failure").write_text("SettingError: no such filters")
        raise SystemExit(2)
    for epoch in range(int(given["epochs"])):
        score = 1 - abs(rate - 0.01) - 0.1 * (filters == "8") + 0.001 * epoch
        print(f"epoch={epoch + 1}; score={score:.6f};", flush=True)
        time.sleep(float(given.get("pause", 0)))
    (root / "model/model.json").write_text(json.dumps(given))
"""
RATE = {"Name": "rate", "MinValue": "0.0001", "MaxValue": "0.1", "ScalingType": "Logarithmic"}
FILTERS = {"Name": "filters", "Values": ["8", "16"]}


def request(image: str, name: str | None = "tuning", **changes: Any) -> dict[str, Any]:
    """A CreateHyperParameterTuningJob request; `changes` replace parts of its config, or of its static parameters."""
    static = {"epochs": "2", **changes.pop("static", {})}
    limits = {"MaxNumberOfTrainingJobs": changes.pop("jobs", 4), "MaxParallelTrainingJobs": changes.pop("parallel", 1)}
    ranges = changes.pop("ranges", {"ContinuousParameterRanges": [RATE], "CategoricalParameterRanges": [FILTERS]})
    warm = changes.pop("warm", None)
    document: dict[str, Any] = {
        "HyperParameterTuningJobConfig": {
            "Strategy": "Bayesian",
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "score"},
            "ResourceLimits": {key: value for key, value in limits.items() if value is not None},
            "ParameterRanges": ranges,
            "RandomSeed": 7,
            **changes,
        },
        "TrainingJobDefinition": {
            "StaticHyperParameters": static,
            "AlgorithmSpecification": {
                "TrainingImage": image,
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": "score", "Regex": "score=([-0-9.]+);"}],
            },
            "RoleArn": ROLE_ARN,
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/models"},
            "ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10},
            "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        },
    }
    if warm:
        parents = [{"HyperParameterTuningJobName": parent} for parent in warm]
        document["WarmStartConfig"] = {
            "ParentHyperParameterTuningJobs": parents,
            "WarmStartType": "IdenticalDataAndAlgorithm",
        }
    return document if name is None else {"HyperParameterTuningJobName": name, **document}


def describe(local: Local, name: str = "tuning") -> dict[str, Any]:
    """DescribeHyperParameterTuningJob."""
    return dict(local.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name))


def trials(local: Local, name: str = "tuning", **order: Any) -> list[dict[str, Any]]:
    """The trials' summaries."""
    listed = local.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name, MaxResults=100, **order
    )
    return list(listed["TrainingJobSummaries"])


def tune(local: Local, document: dict[str, Any]) -> dict[str, Any]:
    """Create a tuning job and wait for its end."""
    local.sagemaker.create_hyper_parameter_tuning_job(**document)
    name = document["HyperParameterTuningJobName"]
    wait_until(lambda: describe(local, name)["HyperParameterTuningJobStatus"] not in ("InProgress", "Stopping"), 90)
    return describe(local, name)


def outcome(local: Local, name: str) -> list[tuple[dict[str, str], float]]:
    """What was tried, and what came out."""
    return [
        (trial["TunedHyperParameters"], trial["FinalHyperParameterTuningJobObjectiveMetric"]["Value"])
        for trial in trials(local, name)
    ]


@pytest.mark.slow
def test_trials_are_training_jobs_and_the_best_one_is_named(local: Local) -> None:
    """Static and tuned hyperparameters reach the job; its model lies where a training job's does."""
    ended = tune(local, request(local.image(SCORER)))
    jobs = trials(local)
    assert ended["HyperParameterTuningJobStatus"] == "Completed"
    assert ended["TrainingJobStatusCounters"]["Completed"] == len(jobs) == 4
    values = [trial["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for trial in jobs]
    best = ended["BestTrainingJob"]
    assert best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == max(values)
    job = local.sagemaker.describe_training_job(TrainingJobName=best["TrainingJobName"])
    assert job["HyperParameters"] == {
        "epochs": "2",
        "_tuning_objective_metric": "score",
        **best["TunedHyperParameters"],
    }
    assert job["TuningJobArn"] == ended["HyperParameterTuningJobArn"]
    uri = f"s3://{BUCKET}/models/{best['TrainingJobName']}/output/model.tar.gz"
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == uri
    assert local.read(uri)
    ordered = trials(local, SortBy="FinalObjectiveMetricValue", SortOrder="Descending")
    assert ordered[0]["TrainingJobName"] == best["TrainingJobName"]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["Bayesian", "Random", "Hyperband"])
def test_one_parallel_job_and_one_seed_give_the_same_trials(local: Local, strategy: str) -> None:
    """A search repeats, and another seed gives another."""
    image, same = local.image(SCORER), {"Strategy": strategy, "jobs": 5}
    for name, seed in (("first", 3), ("second", 3), ("third", 4)):
        tune(local, request(image, name, RandomSeed=seed, **same))
    assert outcome(local, "first") == outcome(local, "second") != outcome(local, "third")


@pytest.mark.slow
def test_parallel_jobs_really_run_at_once_and_repeat_too(local: Local) -> None:
    """Two jobs of a round overlap; rounds are reported in trial order, so the seed repeats them."""
    image = local.image(SCORER)
    for name in ("first", "second"):
        tune(local, request(image, name, parallel=2, jobs=4, static={"pause": "0.2"}))
    assert [tuned for tuned, _ in outcome(local, "first")] == [tuned for tuned, _ in outcome(local, "second")]
    first, second = trials(local, "first")[:2]
    assert max(first["TrainingStartTime"], second["TrainingStartTime"]) < min(
        first["TrainingEndTime"], second["TrainingEndTime"]
    )


@pytest.mark.slow
def test_a_grid_is_tried_whole(local: Local) -> None:
    """Every combination once, without a given number of jobs."""
    ranges = {"CategoricalParameterRanges": [FILTERS, {"Name": "rate", "Values": ["0.1", "0.01"]}]}
    tune(local, request(local.image(SCORER), Strategy="Grid", jobs=None, ranges=ranges))
    tried = sorted((t["TunedHyperParameters"]["filters"], t["TunedHyperParameters"]["rate"]) for t in trials(local))
    assert tried == [("16", "0.01"), ("16", "0.1"), ("8", "0.01"), ("8", "0.1")]


@pytest.mark.slow
def test_reverse_logarithmic_values_stay_within_their_range(local: Local) -> None:
    """As the momentum of an optimiser: most trials lie near the upper end."""
    scaled = {"Name": "rate", "MinValue": "0.5", "MaxValue": "0.999", "ScalingType": "ReverseLogarithmic"}
    tune(local, request(local.image(SCORER), Strategy="Random", jobs=6, ranges={"ContinuousParameterRanges": [scaled]}))
    values = [float(trial["TunedHyperParameters"]["rate"]) for trial in trials(local)]
    assert all(0.5 <= value <= 0.999 for value in values)
    assert sum(value > 0.9 for value in values) >= 3


@pytest.mark.slow
def test_a_trial_behind_the_median_is_stopped_early(local: Local) -> None:
    """SageMaker's median rule on the values in the log; the best model is that of a trial that completed."""
    ranges = {"CategoricalParameterRanges": [{"Name": "rate", "Values": ["0.01", "0.0101", "0.0102", "0.9"]}]}
    early = {"Strategy": "Grid", "jobs": None, "TrainingJobEarlyStoppingType": "Auto"}
    ended = tune(local, request(local.image(SCORER), ranges=ranges, static={"epochs": "4", "pause": "0.5"}, **early))
    states = {trial["TunedHyperParameters"]["rate"]: trial["TrainingJobStatus"] for trial in trials(local)}
    assert states["0.9"] == "Stopped"
    assert states["0.01"] == "Completed"
    assert ended["TrainingJobStatusCounters"]["Stopped"] == 1
    assert ended["BestTrainingJob"]["TunedHyperParameters"] == {"rate": "0.01"}


@pytest.mark.slow
def test_hyperband_ends_jobs_that_lie_behind(local: Local) -> None:
    """Of nine jobs some are stopped at a rung; one that completed is the best."""
    limits = {"StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": 1}}, "jobs": 6}
    ended = tune(
        local, request(local.image(SCORER), Strategy="Hyperband", static={"epochs": "9", "pause": "0.15"}, **limits)
    )
    assert ended["TrainingJobStatusCounters"]["Stopped"] >= 1
    assert ended["BestTrainingJob"]["TrainingJobStatus"] == "Completed"


@pytest.mark.slow
def test_a_warm_start_goes_on_from_earlier_trials(local: Local) -> None:
    """What the parent found guides the search, and the overall best is taken over both."""
    image = local.image(SCORER)
    parent = tune(local, request(image, "parent", jobs=6))
    child = tune(local, request(image, "child", jobs=2, warm=["parent"], static={"epochs": "1"}))
    cold = tune(local, request(image, "cold", jobs=2, static={"epochs": "1"}))
    assert outcome(local, "child") != outcome(local, "cold")
    assert child["OverallBestTrainingJob"]["TrainingJobName"] == parent["BestTrainingJob"]["TrainingJobName"]
    assert "OverallBestTrainingJob" not in cold


@pytest.mark.slow
def test_some_failed_trials_are_tolerated_and_no_good_one_fails_the_tuning(local: Local) -> None:
    """The failure says why the first one failed."""
    image = local.image(SCORER)
    ranges = {"CategoricalParameterRanges": [FILTERS]}
    grid = {"Strategy": "Grid", "jobs": None, "ranges": ranges}
    some = tune(local, request(image, "some", static={"broken": "8"}, **grid))
    assert some["HyperParameterTuningJobStatus"] == "Completed"
    assert some["TrainingJobStatusCounters"]["NonRetryableError"] == 1
    assert some["BestTrainingJob"]["TunedHyperParameters"] == {"filters": "16"}
    none = tune(
        local,
        request(
            image,
            "none",
            ranges={"CategoricalParameterRanges": [{"Name": "filters", "Values": ["8"]}]},
            static={"broken": "8"},
            jobs=9,
        ),
    )
    assert none["HyperParameterTuningJobStatus"] == "Failed"
    assert "SettingError: no such filters" in none["FailureReason"]
    assert len(trials(local, "none")) == 5  # no need to try the rest


@pytest.mark.slow
def test_a_metric_that_no_log_holds_fails_the_tuning(local: Local) -> None:
    """As SageMaker, which ends such a tuning after five jobs."""
    silent = 'import os, pathlib; pathlib.Path(os.environ["ML_ROOT"], "model/model.json").write_text("{}")'
    ended = tune(local, request(local.image(silent), jobs=2))
    assert ended["HyperParameterTuningJobStatus"] == "Failed"
    assert "No objective metrics found" in ended["FailureReason"]
    assert {trial["ObjectiveStatus"] for trial in trials(local)} == {"Failed"}


@pytest.mark.slow
def test_stop_ends_the_trials(local: Local) -> None:
    """The running job is stopped, no further one starts."""
    local.sagemaker.create_hyper_parameter_tuning_job(**request(local.image(SCORER), static={"pause": "60"}))
    wait_until(lambda: [t for t in trials(local) if "TrainingStartTime" in t])
    local.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="tuning")
    wait_until(lambda: describe(local)["HyperParameterTuningJobStatus"] == "Stopped")
    assert [trial["TrainingJobStatus"] for trial in trials(local)] == ["Stopped"]
    with pytest.raises(ClientError, match="in status Stopped"):
        local.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="tuning")


def process_of(local: Local, arn: str) -> int:
    """The process that runs a resource of this home; other homes have resources of the same ARN."""
    named = [p for p in psutil.process_iter(["cmdline"]) if arn in (p.info["cmdline"] or [])]
    (process,) = [p for p in named if p.environ().get("MEDLOOP_HOME") == str(local.home)]
    return int(process.pid)


@pytest.mark.slow
def test_a_tuning_with_a_killed_process_fails(local: Local) -> None:
    """Its trials' processes end with it."""
    local.sagemaker.create_hyper_parameter_tuning_job(**request(local.image(SCORER), static={"pause": "60"}))
    wait_until(lambda: [t for t in trials(local) if "TrainingStartTime" in t])
    os.kill(process_of(local, describe(local)["HyperParameterTuningJobArn"]), signal.SIGKILL)
    wait_until(lambda: describe(local)["HyperParameterTuningJobStatus"] == "Failed")
    assert "engine died" in describe(local)["FailureReason"]
    assert [trial["TrainingJobStatus"] for trial in trials(local)] == ["Failed"]


REFUSED = {
    "Grid with intervals": ({"Strategy": "Grid", "jobs": None}, "categorical hyperparameters only; rate"),
    "more at once than in all": ({"parallel": 9}, "MaxParallelTrainingJobs"),
    "Hyperband and early stopping": ({"Strategy": "Hyperband", "TrainingJobEarlyStoppingType": "Auto"}, "must be Off"),
    "both static and tuned": ({"static": {"rate": "1"}}, "rate is both static and tuned"),
    "another metric": (
        {"HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "loss"}},
        "loss is none of the metric definitions",
    ),
    "logarithm of nothing": (
        {"ranges": {"ContinuousParameterRanges": [{**RATE, "MinValue": "0"}]}},
        "rate: Logarithmic scaling needs a MinValue above 0",
    ),
    "no number": ({"ranges": {"IntegerParameterRanges": [{**RATE, "MinValue": "x"}]}}, "MinValue 'x' is not of type"),
    "upside down": ({"ranges": {"ContinuousParameterRanges": [{**RATE, "MinValue": "9"}]}}, "greater than MaxValue"),
    "an unknown parent": ({"warm": ["absent"]}, "can't find a tuning job with name absent"),
    "no ranges": ({"ranges": {}}, "at least one hyperparameter"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_requests_that_the_service_refuses(local: Local, case: str) -> None:
    """By name, and nothing is recorded."""
    changes, message = REFUSED[case]
    with pytest.raises(ClientError, match=message):
        local.sagemaker.create_hyper_parameter_tuning_job(**request("image", **changes))
    assert local.sagemaker.list_hyper_parameter_tuning_jobs()["HyperParameterTuningJobSummaries"] == []


def tuning_step(image: str, **changes: Any) -> dict[str, Any]:
    """A Tuning step."""
    return {"Name": "Tune", "Type": "Tuning", "Arguments": request(image, None, **changes)}


@pytest.mark.slow
def test_a_tuning_step_hands_on_its_best_model(local: Local) -> None:
    """The step's properties are the Describe answer, and its trials the best first."""
    root = {"Get": "Steps.Tune.TrainingJobDefinition.OutputDataConfig.S3OutputPath"}
    names = ("Steps.Tune.BestTrainingJob.TrainingJobName", "Steps.Tune.TrainingJobSummaries[0].TrainingJobName")
    uris = [{"Std:Join": {"On": "/", "Values": [root, {"Get": name}, "output", "model.tar.gz"]}} for name in names]
    copy = """
        import os, pathlib, shutil
        root = pathlib.Path(os.environ["ML_ROOT"], "processing")
        for name in ("best", "first"):
            shutil.copytree(root / "input" / name, root / "output" / "copy" / name)
    """
    step = processing(
        "Copy",
        local.image(copy),
        inputs=dict(zip(("best", "first"), uris, strict=True)),
        outputs={"copy": f"s3://{BUCKET}/copy"},
    )
    ended, steps = local.run([tuning_step(local.image(SCORER), jobs=3), step])
    assert ended["PipelineExecutionStatus"] == "Succeeded", ended
    name = steps["Tune"]["Metadata"]["TuningJob"]["Arn"].rpartition("/")[2]
    assert len(name) <= 32
    best = describe(local, name)["BestTrainingJob"]["TrainingJobName"]
    model = local.read(f"s3://{BUCKET}/models/{best}/output/model.tar.gz")
    assert local.read(f"s3://{BUCKET}/copy/best/model.tar.gz") == model
    assert local.read(f"s3://{BUCKET}/copy/first/model.tar.gz") == model


@pytest.mark.slow
def test_stopping_an_execution_stops_its_tuning(local: Local) -> None:
    """The tuning job, its trial and the step say so."""
    arn = local.start([tuning_step(local.image(SCORER), static={"pause": "60"})])
    wait_until(lambda: local.steps(arn).get("Tune", {}).get("Metadata"))
    name = local.steps(arn)["Tune"]["Metadata"]["TuningJob"]["Arn"].rpartition("/")[2]
    wait_until(lambda: [t for t in trials(local, name) if "TrainingStartTime" in t])
    local.sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
    assert local.finish(arn)["PipelineExecutionStatus"] == "Stopped"
    assert local.steps(arn)["Tune"]["StepStatus"] == "Stopped"
    assert describe(local, name)["HyperParameterTuningJobStatus"] == "Stopped"
    assert [trial["TrainingJobStatus"] for trial in trials(local, name)] == ["Stopped"]


@pytest.mark.slow
def test_a_killed_engine_ends_its_tuning_and_a_retry_runs_it_again(local: Local) -> None:
    """Nothing is left running, and the execution resumes with a new tuning job."""
    arn = local.start([tuning_step(local.image(SCORER), jobs=2, static={"pause": "1.5"})])
    wait_until(lambda: local.steps(arn).get("Tune", {}).get("Metadata"))
    name = local.steps(arn)["Tune"]["Metadata"]["TuningJob"]["Arn"].rpartition("/")[2]
    wait_until(lambda: [t for t in trials(local, name) if "TrainingStartTime" in t])
    (engine,) = [p for p in psutil.process_iter(["cmdline"]) if arn in (p.info["cmdline"] or [])]
    os.kill(engine.pid, signal.SIGKILL)
    wait_until(lambda: local.describe(arn)["PipelineExecutionStatus"] == "Failed")
    assert describe(local, name)["HyperParameterTuningJobStatus"] == "Failed"
    assert {trial["TrainingJobStatus"] for trial in trials(local, name)} <= {"Failed", "Completed"}
    local.sagemaker.retry_pipeline_execution(PipelineExecutionArn=arn)
    assert local.finish(arn)["PipelineExecutionStatus"] == "Succeeded"
    assert not local.steps(arn)["Tune"]["Metadata"]["TuningJob"]["Arn"].endswith(name)


@pytest.mark.slow
def test_a_failed_tuning_fails_its_step_with_the_reason(local: Local) -> None:
    """So that the command line can tell a user's error."""
    broken = {
        "ranges": {"CategoricalParameterRanges": [{"Name": "filters", "Values": ["8"]}]},
        "static": {"broken": "8"},
    }
    ended, steps = local.run([tuning_step(local.image(SCORER), jobs=1, **broken)])
    assert ended["PipelineExecutionStatus"] == "Failed"
    assert "SettingError: no such filters" in steps["Tune"]["FailureReason"]
