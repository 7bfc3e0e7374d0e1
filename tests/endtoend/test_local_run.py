"""A local classification run through the command line: gates, invalid input, interruptions and kills."""

from __future__ import annotations

import json
import signal
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from medloop.documents.card import REQUIRED_CARD_FIELDS

pytestmark = pytest.mark.slow

SMALL = (
    *("--set", "train.hyperparameters.image_size=32", "--set", "train.hyperparameters.augment=false"),
    *("--param", "ModelName=resnet18", "--param", "Epochs=1", "--param", "BatchSize=8"),
)
"""The smallest classification run."""
STATED = [part for name in REQUIRED_CARD_FIELDS for part in ("--set", f"registration.{name}=a test of the software")]
"""The required model card fields; without them a version is registered as Rejected."""


def wait_for(condition: Callable[[], Any], seconds: float = 180) -> Any:
    """Wait until a condition returns a true value, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.2)
    raise AssertionError("timed out")


def engine_of(arn: str) -> psutil.Process | None:
    """The process of an execution's engine."""
    for process in psutil.process_iter(["cmdline"]):
        if arn in (process.info["cmdline"] or ()) and "medloop.local.runner" in process.info["cmdline"]:
            return process
    return None


def job_of(medloop: Any, container: str) -> psutil.Process | None:
    """The process that runs this container's main.py in a job of the home; a warm job isn't the engine's child."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(medloop.home) in process.environ().get("ML_ROOT", "") and container in str(process.cmdline()):
                return process
    return None


def is_training(medloop: Any, arn: str) -> bool:
    """True if the execution's training job is running."""
    steps = {s["name"]: s["status"] for s in medloop.json("executions", "show", arn)["steps"]}
    return steps.get("Train") == "Executing" and job_of(medloop, "classify") is not None


@pytest.fixture(scope="module")
def trained(medloop: Any, images: Path) -> dict[str, Any]:
    """The document of a successful run."""
    code = medloop("run", "classification", "--data", str(images), *SMALL, *STATED, "--param", "MinScore=0", "--json")
    assert code == 0, medloop.err
    return dict(json.loads(medloop.out))


def test_a_killed_job_fails_its_execution(medloop: Any, images: Path) -> None:
    """Ctrl-C leaves the execution running; kill -9 of its job fails it, with the signal in the failure reason."""
    follower = medloop.start("run", "classification", "--data", str(images), *SMALL)
    (execution,) = wait_for(lambda: medloop.json("executions", "list"))
    wait_for(lambda: is_training(medloop, execution["arn"]))

    follower.send_signal(signal.SIGINT)
    _, stderr = follower.communicate(timeout=30)
    assert follower.returncode == 130
    assert f"medloop executions logs {execution['id']} --follow" in stderr

    job = job_of(medloop, "classify")
    assert job is not None, "the interrupt ended the job"
    job.kill()
    shown = wait_for(lambda: ended(medloop, execution["arn"]))
    assert shown["status"] == "Failed"
    (train,) = [s for s in shown["steps"] if s["name"] == "Train"]
    assert train["status"] == "Failed"
    assert "signal 9" in train["reason"] or "SIGKILL" in train["reason"] or "137" in train["reason"]


def ended(medloop: Any, arn: str) -> dict[str, Any] | None:
    """The document of `executions show` after the execution has ended, None before."""
    shown: dict[str, Any] = medloop.json("executions", "show", arn)
    return None if shown["status"] in ("Executing", "Stopping") else shown


def test_a_killed_engine_fails_its_execution(medloop: Any, images: Path) -> None:
    """Kill -9 of the engine: the next command reports Failed with the reason, and the job is terminated."""
    arn = medloop.json("run", "classification", "--data", str(images), *SMALL, "--no-wait")["arn"]
    wait_for(lambda: is_training(medloop, arn))
    engine, job = engine_of(arn), job_of(medloop, "classify")
    assert engine is not None
    assert job is not None

    engine.kill()

    shown = wait_for(lambda: ended(medloop, arn))
    assert shown["status"] == "Failed"
    assert "engine" in shown["reason"]
    assert all(s["status"] != "Executing" for s in shown["steps"])
    wait_for(lambda: not job.is_running() or job.status() == psutil.STATUS_ZOMBIE)


def test_a_run_ends_in_a_registered_version(medloop: Any, trained: dict[str, Any]) -> None:
    """After the kills a new run succeeds: score, report, and a version that waits for approval."""
    assert trained["exit_code"] == 0
    assert trained["score"]["name"] == "macro_auroc"
    assert 0 <= trained["score"]["value"] <= 1
    assert Path(trained["report"]).read_text(encoding="utf-8").lstrip().startswith("<")
    (version,) = medloop.json("models", "list", "medloop-classification-bilder-fur-alle")
    assert version["arn"] == trained["model_arn"]
    assert version["approval"] == "PendingManualApproval"
    assert version["score"] == trained["score"]["value"]


def test_steps_logs_and_evidence_are_readable(medloop: Any, trained: dict[str, Any]) -> None:
    """Commands show the steps, logs and evidence of the run."""
    shown = medloop.json("executions", "show", trained["execution"]["id"])
    assert [(s["name"], s["status"]) for s in shown["steps"]][:5] == [
        (name, "Succeeded") for name in ("Split", "Train", "Champion", "Evaluate", "Gate")
    ]
    assert shown["parameters"]["Epochs"] == "1"
    assert medloop("executions", "logs", "latest", "Train") == 0
    assert "epoch=1;" in medloop.out
    assert medloop("models", "show", trained["model"]) == 0
    assert "accuracy" in medloop.out
    assert medloop.json("models", "open", trained["model"])["report"] == trained["report"]


def test_an_unchanged_second_run_starts_no_job(medloop: Any, images: Path, trained: dict[str, Any]) -> None:
    """Every step with a job comes from the step cache; a version is registered."""
    first = {s["name"]: s["source"] or trained["execution"]["id"] for s in trained["execution"]["steps"]}
    again = medloop.json("run", "classification", "--data", str(images), *SMALL, "--param", "MinScore=0")
    steps = {s["name"]: s for s in again["execution"]["steps"]}
    assert {s["name"] for s in steps.values() if s["job"]} == {"Split", "Train", "Evaluate"}
    for name in ("Split", "Train", "Evaluate"):
        assert (steps[name]["cached"], steps[name]["source"]) == (True, first[name])
    assert again["model"] != trained["model"]
    assert again["report"] == trained["report"]


def weights_of(medloop: Any, outcome: dict[str, Any]) -> bytes:
    """The content of model.safetensors of a run's model."""
    artefact = medloop.json("models", "show", outcome["model"])["artefact"]
    archive = medloop.home / "s3" / artefact.removeprefix("s3://")
    with tarfile.open(archive) as tar:
        file = tar.extractfile("model.safetensors")
        assert file is not None
        return file.read()


def test_script_mode_on_raw_files_gives_the_same_model(medloop: Any, images: Path, trained: dict[str, Any]) -> None:
    """The SDK's drivers and a manifest give the same bytes as the image and copies; outputs contain no name."""
    choices = ("--set", "train.mode=script", "--set", "split.layout=manifest")
    outcome = medloop.json("run", "classification", "--data", str(images), *SMALL, *choices, "--param", "MinScore=0")
    assert weights_of(medloop, outcome) == weights_of(medloop, trained)
    folder = Path(outcome["report"]).parent
    assert folder.is_dir()
    assert not [path for path in folder.iterdir() if b"patient 1" in path.read_bytes()]
    assert medloop("executions", "logs", outcome["execution"]["id"]) == 0
    assert "Running Basic Script driver" in medloop.out
    assert "patient 1" not in medloop.out


def test_an_unreachable_minimum_score_fails_the_run(medloop: Any, images: Path, trained: dict[str, Any]) -> None:
    """With MinScore=1.5 the run fails with score, minimum and reason, exit code 1, and registers nothing."""
    before = len(medloop.json("models", "list"))
    code = medloop("run", "classification", "--data", str(images), *SMALL, "--param", "MinScore=1.5")

    assert code == 1
    reason = medloop.err.splitlines()[-1]
    assert reason.startswith("error: step Fail: The gate refused the model.")
    assert "MinScore = 1.5" in reason
    assert f"macro_auroc {trained['score']['value']:.4f}" in medloop.out
    assert len(medloop.json("models", "list")) == before


def test_dry_run_writes_nothing(medloop: Any, images: Path, tmp_path: Path) -> None:
    """`--dry-run` lists steps, instances, inputs and parameters, and creates no home folder."""
    home = tmp_path / "home"
    command = ("run", "classification", "--data", str(images), *SMALL, "--dry-run", "--home", str(home))

    plan = medloop.json(*command)

    steps = {s["name"]: s for s in plan["steps"]}
    assert list(steps) == ["Split", "Train", "Champion", "Evaluate", "Gate", "Register", "Fail"]
    assert steps["Split"]["inputs"][0] == f"data from {images}"
    assert steps["Register"]["when"] == "Gate: yes"
    assert plan["parameters"]["ModelName"] == "resnet18"
    assert not home.exists()


def test_a_users_error_inside_a_job_exits_2(medloop: Any, images: Path, tmp_path: Path) -> None:
    """Unchecked invalid data fails the split job: exit code 2, one line that names the file."""
    bad = tmp_path / "one class"
    (bad / "only").mkdir(parents=True)
    (bad / "only" / "image.png").write_text("no image")

    assert medloop("run", "classification", "--data", str(bad), *SMALL, "--no-check") == 2

    assert medloop.err.splitlines()[-1].startswith("error: step Split: ")
    assert "Traceback" not in medloop.err
