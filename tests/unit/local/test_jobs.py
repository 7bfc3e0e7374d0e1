"""Jobs as real processes: the contract's folders, outputs, reasons, limits, and what a job can't see or change."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from medloop.local.state.home import BUCKET, Home
from medloop.local.state.objects import reference
from tests.unit.local.conftest import wait_until
from tests.unit.local.steps import processing, training

pytestmark = pytest.mark.slow

READ_ALL = """
import json, os, sys
from pathlib import Path
root = Path(os.environ["ML_ROOT"])
seen = {str(p.relative_to(root)): p.read_text() for p in sorted(root.rglob("*")) if p.is_file()}
out = root / ("model" if sys.argv[1:] == ["train"] else "processing/output/out")
(out / "seen.json").write_text(json.dumps({"argv": sys.argv, "files": seen, "env": dict(os.environ)}))
"""


def run_one(local: Any, step: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run one step; returns the step's record and its job's description."""
    _, steps = local.run([step])
    record = steps[step["Name"]]
    ((kind, job),) = record["Metadata"].items()
    name = job["Arn"].rpartition("/")[2]
    if kind == "TrainingJob":
        return record, local.sagemaker.describe_training_job(TrainingJobName=name)
    return record, local.sagemaker.describe_processing_job(ProcessingJobName=name)


def log_of(local: Any, job: dict[str, Any]) -> list[str]:
    """The messages of a job's log, through the logs client."""
    kind = "TrainingJob" if "TrainingJobName" in job else "ProcessingJob"
    group = f"/aws/sagemaker/{kind}s"
    logs = local.boto.client("logs")
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=job[f"{kind}Name"])["logStreams"]
    events = logs.get_log_events(logGroupName=group, logStreamName=streams[0]["logStreamName"], startFromHead=True)
    return [event["message"] for event in events["events"]]


def unpacked(data: bytes) -> dict[str, bytes]:
    """The files of a tar.gz."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def test_processing_job_gets_the_contract(local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs at their LocalPath, rewritten arguments, configuration files, and none of the caller's environment."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real")
    monkeypatch.setenv("MY_OWN", "1")
    folder = tmp_path / "Données à moi"
    (folder / "sous dossier").mkdir(parents=True)
    (folder / "sous dossier" / "é.txt").write_text("hé")
    local.s3.put_object(Bucket=BUCKET, Key="m/model.tar.gz", Body=b"m")
    step = processing(
        "Read",
        local.image(READ_ALL),
        inputs={"data": reference(Home.find(local.home), folder), "model": f"s3://{BUCKET}/m/model.tar.gz"},
        outputs={"out": f"s3://{BUCKET}/out"},
        arguments=["--where", "/opt/ml/processing/input/data", "--text", "an /optical/opt/ml"],
        request={"Environment": {"SETTING": "/opt/ml/x"}},
    )
    record, job = run_one(local, step)
    assert (record["StepStatus"], job["ProcessingJobStatus"]) == ("Succeeded", "Completed")
    seen = json.loads(local.read(f"s3://{BUCKET}/out/seen.json"))
    root = seen["env"]["ML_ROOT"]
    assert seen["argv"][1:] == ["--where", f"{root}/processing/input/data", "--text", "an /optical/opt/ml"]
    assert seen["files"]["processing/input/data/sous dossier/é.txt"] == "hé"
    assert seen["files"]["processing/input/model/model.tar.gz"] == "m"
    assert json.loads(seen["files"]["config/resourceconfig.json"])["hosts"] == ["algo-1"]
    assert json.loads(seen["files"]["config/processingjobconfig.json"])["ProcessingJobName"] == job["ProcessingJobName"]
    assert seen["env"]["SETTING"] == f"{root}/x"
    assert not {"AWS_SECRET_ACCESS_KEY", "MY_OWN", "MEDLOOP_HOME"} & set(seen["env"])
    assert seen["env"]["OMP_WAIT_POLICY"] == "passive"
    assert not list((local.home / "jobs").iterdir())
    assert not Path(seen["env"]["TMPDIR"]).exists()


def test_training_job_gets_the_contract_and_leaves_its_model(local: Any) -> None:
    """Channels, hyperparameters and metrics; model.tar.gz and output.tar.gz with the same bytes for the same files."""
    local.s3.put_object(Bucket=BUCKET, Key="t/train/a", Body=b"1")
    local.s3.put_object(Bucket=BUCKET, Key="t/train.csv", Body=b"2")
    code = (
        READ_ALL
        + """
(root / "output/data/sub").mkdir()
(root / "output/data/sub/events").write_text("e")
for score in (0.25, 0.5):
    print(f"epoch=1; val_score={score};")
(out / "seen.json").rename(root / "output/data/seen.json")
(out / "weights").write_bytes(b"w")
"""
    )
    step = training(
        "Train",
        local.image(code),
        {"train": f"s3://{BUCKET}/t/train"},
        HyperParameters={"epochs": "3"},
        metrics={"score": "val_score=([0-9.]+);", "none": "no_such=(.*);"},
    )
    _, job = run_one(local, step)
    assert [(item["MetricName"], item["Value"]) for item in job["FinalMetricDataList"]] == [("score", 0.5)]
    assert [item["Status"] for item in job["SecondaryStatusTransitions"]] == [
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    model = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert model == f"s3://{BUCKET}/models/{job['TrainingJobName']}/output/model.tar.gz"
    assert unpacked(local.read(model)) == {"weights": b"w"}
    output = unpacked(local.read(model.replace("model.tar", "output.tar")))
    assert set(output) == {"seen.json", "sub/events"}
    files = json.loads(output["seen.json"])["files"]
    assert (files["input/data/train/a"], files["input/data/train/train.csv"]) == ("1", "2")
    assert json.loads(files["input/config/hyperparameters.json"]) == {"epochs": "3"}
    assert log_of(local, job)[-2:] == ["epoch=1; val_score=0.25;", "epoch=1; val_score=0.5;"]
    _, again = run_one(local, training("Train", local.image(WEIGHTS)))
    assert local.read(again["ModelArtifacts"]["S3ModelArtifacts"]) == local.read(model)


def test_training_jobs_share_a_cache(local: Any) -> None:
    """One folder for all of them, which a job may write and no other user may read; what the request names wins."""
    code = (
        "import os, pathlib\n"
        "cache = pathlib.Path(os.environ['MEDLOOP_CACHE_DIR'])\n"
        "(cache / 'entry').open('a').write('x')\n"
        "print('cache:', cache, oct(cache.stat().st_mode)[-3:], (cache / 'entry').read_text())\n" + WEIGHTS
    )
    default, requested = local.home / "cache", local.home / "other"
    for expected in ("x", "xx"):
        _, job = run_one(local, training("Train", local.image(code)))
        assert f"cache: {default} 700 {expected}" in log_of(local, job)
    requested.mkdir()
    _, job = run_one(local, training("Train", local.image(code), Environment={"MEDLOOP_CACHE_DIR": str(requested)}))
    assert (requested / "entry").read_text() == "x"


WEIGHTS = 'import os; open(os.environ["ML_ROOT"] + "/model/weights", "wb").write(b"w")'
FAILING = """
import os, sys
from pathlib import Path
root = Path(os.environ["ML_ROOT"])
(root / "output" / sys.argv[1]).write_text("DataError: label.png is no image " + "x" * 2000)
(root / sys.argv[2]).mkdir(parents=True, exist_ok=True)
(root / sys.argv[2] / "half").write_text("half")
sys.exit(2)
"""


def test_failed_jobs_say_why_and_leave_nothing(local: Any) -> None:
    """The failure file, or output/message, is the reason, cut to the service's length; outputs are not stored."""
    image = local.image(FAILING)
    step = processing("P", image, outputs={"out": f"s3://{BUCKET}/out"}, arguments=["message", "processing/output/out"])
    record, job = run_one(local, step)
    assert record["FailureReason"].startswith("AlgorithmError: DataError: label.png is no image")
    assert record["FailureReason"].endswith("exit code: 2")
    assert len(record["FailureReason"]) == 1024
    assert (job["ProcessingJobStatus"], len(job["ExitMessage"])) == ("Failed", 1024)
    step = training("T", image)
    step["Arguments"]["AlgorithmSpecification"]["ContainerArguments"] = ["failure", "model"]
    record, job = run_one(local, step)
    assert record["FailureReason"].startswith("AlgorithmError: DataError: label.png is no image")
    assert "ModelArtifacts" not in job
    listed = local.s3.list_objects_v2(Bucket=BUCKET)["Contents"]
    assert {item["Key"].partition("/")[0] for item in listed} == {"bundles"}


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (training("S", "image:x"), "the image 'image:x' is not medloop-<container>:<digest>"),
        (training("S", "x/medloop-tiny:abc"), "has no bundle"),
        (training("S", "tiny", {"train": "s3://medloop-local/none"}), "No S3 objects found under S3 URL"),
        (training("S", "tiny", ResourceConfig={"InstanceCount": 2, "VolumeSizeInGB": 1}), "InstanceCount is 2"),
        (processing("S", "tiny") | {"hostile": True}, "can't be unpacked"),
    ],
    ids=["foreign image", "no bundle", "empty prefix", "two instances", "hostile archive"],
)
def test_job_that_can_not_be_staged_says_why(local: Any, step: dict[str, Any], reason: str) -> None:
    """What SageMaker would accept and fail later fails here with a reason of its own."""
    spec = step["Arguments"].get("AlgorithmSpecification") or step["Arguments"]["AppSpecification"]
    field = "TrainingImage" if "TrainingImage" in spec else "ImageUri"
    if spec[field] == "tiny":
        spec[field] = local.image_of(_hostile()) if step.pop("hostile", False) else local.image("pass")
    record, _ = run_one(local, step)
    assert record["FailureReason"].startswith("ClientError: ")
    assert reason in record["FailureReason"]
    assert not (local.home.parent / "escaped").exists()


def _hostile() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("../../../../escaped")
        archive.addfile(member, io.BytesIO(b""))
    return packed.getvalue()


ISOLATED = """
import importlib, subprocess, sys
import medloop.container.own
for name in ("medloop.cloud.sessions", "medloop.local.session", "medloop.errors", "pipelines", "steps.split"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    sys.exit(f"{name} can be imported")
import numpy
if sys.argv[1] == "parent":
    sys.exit(subprocess.run([sys.executable, __file__, "child"]).returncode)
"""


def test_job_and_its_child_see_the_bundle_only(local: Any) -> None:
    """This project's packages come from the bundle or not at all; installed libraries stay importable."""
    files = {"medloop/__init__.py": "", "medloop/container/__init__.py": "", "medloop/container/own.py": ""}
    record, job = run_one(local, processing("S", local.image(ISOLATED, files), arguments=["parent"]))
    assert record["StepStatus"] == "Succeeded", log_of(local, job)


WRITING = """
import os, shutil, subprocess, sys
from pathlib import Path
link = Path(os.environ["ML_ROOT"], "processing/input/data/a.txt")
real = link.resolve()
attempts = [
    lambda path: open(path, "w"),
    lambda path: open(path, "r+b"),
    lambda path: os.open(path, os.O_WRONLY | os.O_TRUNC),
    lambda path: os.truncate(path, 0),
    lambda path: os.chmod(path, 0o600),
    lambda path: os.utime(path),
    lambda path: os.link(path, link.with_name("hard"), follow_symlinks=True),
]
for attempt in [(a, p) for a in attempts for p in (link, real)] + [
    (os.remove, real), (lambda p: os.rename(p, p.with_name("b")), real), (shutil.rmtree, real.parent),
    (lambda p: p.with_name("new").write_text("x"), real), (lambda p: p.with_name("dir").mkdir(), real),
]:
    try:
        attempt[0](attempt[1])
    except PermissionError:
        continue
    sys.exit(f"{attempt} went through")
os.remove(link)
Path(os.environ["ML_ROOT"], "processing/output/out/mine").write_text("mine")
if sys.argv[1] == "parent":
    link.symlink_to(real)
    sys.exit(subprocess.run([sys.executable, __file__, "child"]).returncode)
"""


def test_job_and_its_child_can_not_change_the_users_files(local: Any, tmp_path: Path) -> None:
    """Writing, truncating, renaming or deleting through an input, or next to it, is refused; the link itself may go."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.txt").write_text("precious")
    before = (folder / "a.txt").stat()
    inputs = {"data": reference(Home.find(local.home), folder)}
    step = processing(
        "S", local.image(WRITING), inputs=inputs, outputs={"out": f"s3://{BUCKET}/o"}, arguments=["parent"]
    )
    record, job = run_one(local, step)
    assert record["StepStatus"] == "Succeeded", log_of(local, job)
    assert [path.name for path in folder.iterdir()] == ["a.txt"]
    after = (folder / "a.txt").stat()
    assert (folder / "a.txt").read_text() == "precious"
    assert (before.st_mtime_ns, before.st_mode, before.st_nlink) == (after.st_mtime_ns, after.st_mode, after.st_nlink)


SLEEPING = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("ready", os.getpid(), flush=True)
time.sleep(600)
"""


def pid_of_job(local: Any) -> int:
    """The process of the only job that says it is ready."""
    pids: list[int] = []

    def ready() -> bool:
        for path in local.home.glob("logs/aws/sagemaker/*/*/algo-1"):
            pids.extend(int(line.split()[2]) for line in path.read_text().splitlines() if " ready " in line)
        return bool(pids)

    wait_until(ready)
    return pids[0]


def processes_of(local: Any) -> list[psutil.Process]:
    """Living processes that belong to jobs of this home."""
    running = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # another user's, or one that has just ended
            if process.environ().get("ML_ROOT", "").startswith(str(local.home)):
                running.append(process)
    return [process for process in running if process.status() != psutil.STATUS_ZOMBIE]


def test_killed_job_fails_its_step_naming_the_signal(local: Any) -> None:
    """Kill -9 of the job's process: the step and the execution say so, its stray child ends too, nothing is left."""
    arn = local.start([training("Train", local.image(SLEEPING))])
    os.kill(pid_of_job(local), signal.SIGKILL)
    assert local.finish(arn)["PipelineExecutionStatus"] == "Failed"
    step = local.steps(arn)["Train"]
    assert "signal 9 (SIGKILL)" in step["FailureReason"]
    assert step["FailureReason"].endswith("exit code: 137")
    assert processes_of(local) == []


def test_job_that_runs_too_long_is_stopped(local: Any) -> None:
    """MaxRuntimeInSeconds ends the job, which keeps no one waiting, and the step fails with that reason."""
    record, job = run_one(local, training("T", local.image(SLEEPING), StoppingCondition={"MaxRuntimeInSeconds": 1}))
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert "MaxRuntimeExceeded" in record["FailureReason"]
    assert processes_of(local) == []


def test_job_without_a_pipeline_runs_and_stops(local: Any) -> None:
    """CreateTrainingJob runs by itself, logs while it runs, and StopTrainingJob ends it; names are used once."""
    request = training("T", local.image(SLEEPING))["Arguments"]
    local.sagemaker.create_training_job(TrainingJobName="mine", **request)
    with pytest.raises(local.sagemaker.exceptions.ResourceInUse):
        local.sagemaker.create_training_job(TrainingJobName="mine", **request)
    pid_of_job(local)
    local.sagemaker.stop_training_job(TrainingJobName="mine")
    status = lambda: local.sagemaker.describe_training_job(TrainingJobName="mine")["TrainingJobStatus"]  # noqa: E731
    wait_until(lambda: status() == "Stopped")
    listed = local.sagemaker.list_training_jobs(NameContains="min", StatusEquals="Stopped")["TrainingJobSummaries"]
    assert [job["TrainingJobName"] for job in listed] == ["mine"]
