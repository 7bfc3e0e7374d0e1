"""Kill -9 at instants spread over a run: the records are consistent afterwards, and the next run succeeds.

The instants come from a seed: the duration of an undisturbed run is divided into one equal part per round, and
one instant is drawn in each.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest

from medloop.local.engine import executions
from medloop.local.jobs.job import PROCESSING, TRAINING
from medloop.local.jobs.warm import MINUTES_VARIABLE
from medloop.local.session import local_session
from medloop.local.state.home import BUCKET
from medloop.local.state.store import Store, Table
from tests.unit.local.conftest import Local, wait_until
from tests.unit.local.steps import compare, condition, processing, register, training
from tests.unit.local.test_store import writer
from tests.unit.local.test_warm import servers

pytestmark = pytest.mark.soak

ROUNDS = 20
WRITER_ROUNDS = 40
MARK_ROUNDS = 4
NUM_FILES = 100  # outputs of Prepare, so that a kill can fall between two of them
STEPS = ["Prepare", "Train", "Gate", "Register"]
SEED = 20261123

PREPARE = f"""
import json, os, subprocess, time
from pathlib import Path
subprocess.Popen(["sleep", "600"], start_new_session=True)
out = Path(os.environ["ML_ROOT"], "processing/output/prepared")
for number in range({NUM_FILES}):
    (out / f"{{number}}.txt").write_text("prepared")
(out / "evaluation.json").write_text(json.dumps({{"score": 0.75}}))
time.sleep(0.1)
"""

TRAIN = """
import os, subprocess, time
from pathlib import Path
subprocess.Popen(["sleep", "600"], start_new_session=True)
root = Path(os.environ["ML_ROOT"])
(root / "model/weights").write_bytes(os.urandom(4_000_000))
(root / "output/data/history").write_bytes(os.urandom(1_000_000))
time.sleep(0.1)
"""

PRELOAD = {"containers/tiny/container.toml": 'preload = ["numpy"]'}

Kill = Callable[[Local, str], bool]


def pipeline(local: Local) -> list[dict[str, Any]]:
    """Prepare -> Train -> Gate -> Register; outputs are stored below the execution's id."""
    identifier = {"Get": "Execution.PipelineExecutionId"}
    below = {"Std:Join": {"On": "/", "Values": [f"s3://{BUCKET}/runs", identifier]}}
    prepare = processing(
        "Prepare",
        local.image(PREPARE, PRELOAD),
        outputs={"prepared": {"Std:Join": {"On": "/", "Values": [below, "prepared"]}}},
        PropertyFiles=[{"PropertyFileName": "score", "OutputName": "prepared", "FilePath": "evaluation.json"}],
    )
    data = {"Get": "Steps.Prepare.ProcessingOutputConfig.Outputs['prepared'].S3Output.S3Uri"}
    output = {"S3OutputPath": {"Std:Join": {"On": "/", "Values": [below, "trained"]}}}
    train = training("Train", local.image(TRAIN, PRELOAD), {"data": data}, OutputDataConfig=output)
    score = {"Std:JsonGet": {"PropertyFile": {"Get": "Steps.Prepare.PropertyFiles.score"}, "Path": "score"}}
    model = {"Image": "image", "ModelDataUrl": {"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"}}
    specification = {
        "Containers": [model],
        "SupportedContentTypes": ["image/png"],
        "SupportedResponseMIMETypes": ["application/json"],
    }
    package = register("Register", ModelPackageDescription=identifier, InferenceSpecification=specification)
    gate = condition("Gate", compare("GreaterThanOrEqualTo", score, 0.5), yes=[package])
    return [prepare, train, {**gate, "DependsOn": ["Train"]}]


@dataclass
class View:
    """One execution as a separate session reads it."""

    status: str
    reason: str
    steps: dict[str, dict[str, Any]]
    jobs: dict[str, str]
    packages: int
    prepared: int
    trained: int

    @classmethod
    def of_execution(cls, local: Local, arn: str, first: int) -> View:
        """Read everything; `first` selects the first read, because the first reader detects dead processes."""
        session = local_session(local.home)
        reader = Local(local.home, session, session.client("sagemaker"), session.client("s3"))
        identifier = arn.rpartition("/")[2]
        seen: dict[str, Any] = {}
        readers: list[tuple[str, Callable[[], Any]]] = [
            ("ended", lambda: reader.describe(arn)),
            ("steps", lambda: reader.steps(arn)),
            ("jobs", lambda: jobs_of(reader, identifier)),
            ("packages", lambda: packages_of(reader, identifier)),
            ("prepared", lambda: len(keys(reader, f"runs/{identifier}/prepared"))),
            ("trained", lambda: len(keys(reader, f"runs/{identifier}/trained"))),
        ]
        for number in range(len(readers)):
            name, read = readers[(first + number) % len(readers)]
            seen[name] = read()
        # The first reader ends a dead engine's jobs; outputs are read after that.
        seen |= {name: read() for name, read in readers if name in ("prepared", "trained")}
        ended = seen.pop("ended")
        return cls(ended["PipelineExecutionStatus"], ended.get("FailureReason", ""), **seen)

    def is_done(self, step: str) -> bool:
        """True if a step is recorded as Succeeded."""
        return step in self.steps and bool(self.steps[step]["StepStatus"] == "Succeeded")


def pages(client: Any, operation: str, member: str, **request: Any) -> Iterator[dict[str, Any]]:
    """Every item of every page."""
    for page in client.get_paginator(operation).paginate(**request):
        yield from page.get(member, [])


def jobs_of(reader: Local, identifier: str) -> dict[str, str]:
    """Status by name of an execution's jobs."""
    lists = [("list_processing_jobs", PROCESSING), ("list_training_jobs", TRAINING)]
    return {
        job[f"{kind.name}Name"]: job[kind.status]
        for operation, kind in lists
        for job in pages(reader.sagemaker, operation, f"{kind.name}Summaries", NameContains=identifier)
    }


def packages_of(reader: Local, identifier: str) -> int:
    """How many model packages an execution registered."""
    packages = pages(reader.sagemaker, "list_model_packages", "ModelPackageSummaryList", ModelPackageType="Both")
    return sum(package["ModelPackageDescription"] == identifier for package in packages)


def keys(reader: Local, prefix: str) -> list[str]:
    """The objects of a prefix."""
    return [item["Key"] for item in pages(reader.s3, "list_objects_v2", "Contents", Bucket=BUCKET, Prefix=prefix)]


def check(local: Local, arn: str, first: int) -> View:
    """The view of an ended execution; asserts that its records agree with each other and with the disk."""
    view = View.of_execution(local, arn, first)
    assert view.status in ("Succeeded", "Failed"), view
    assert list(view.steps) == STEPS[: len(view.steps)], view
    assert {step["StepStatus"] for step in view.steps.values()} <= {"Succeeded", "Failed"}, view
    assert set(view.jobs.values()) <= {"Completed", "Failed"}, view
    assert view.packages == view.is_done("Register"), view
    assert view.prepared == (NUM_FILES + 1 if view.is_done("Prepare") else 0), view
    assert view.trained == (2 if view.is_done("Train") else 0), view
    assert (view.status == "Succeeded") <= all(view.is_done(name) for name in STEPS), view
    wait_until(lambda: not processes_of(arn), 5)
    assert leftovers(local) == []
    return view


def processes_of(arn: str) -> list[psutil.Process]:
    """Running processes of an execution: its engine and its jobs, detached ones included."""
    processes = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # another user's, or ended just now
            root = process.environ().get("ML_ROOT", "")
            if (arn in process.cmdline() or arn.rpartition("/")[2] in root) and process.status() != "zombie":
                processes.append(process)
    return processes


def leftovers(local: Local) -> list[Path]:
    """Temporary files that should have been deleted."""
    folders = [local.home / "jobs", local.home / "tmp", Path(tempfile.gettempdir())]
    return [path for folder in folders if folder.exists() for path in folder.iterdir()]


@cache
def store_of(home: Path) -> Store:
    """A home's store, opened once: the first use of a store takes the writer's lock."""
    return Store(home / "medloop.db")


def records(local: Local) -> Store:
    """The raw records: reading them does not end dead executions."""
    return store_of(local.home)


def state(local: Local, arn: str) -> str:
    """The last step and its job's status in the raw records."""
    with records(local).read() as read:
        steps = read.select(Table.STEPS, arn)
        if executions.read(read, arn)["PipelineExecutionStatus"] not in executions.RUNNING:
            return "ended"
        if not steps:
            return "no step yet"
        last = steps[-1]
        jobs = [job for job in read.select(Table.TRAINING_JOBS) if job["_execution"] == arn]
    detail = f" {jobs[-1]['SecondaryStatus']}" if last["StepName"] == "Train" and jobs else ""
    return f"{last['StepName']} {last['StepStatus']}{detail}"


def runs(local: Local, arn: str, part: str) -> Path:
    """The folder in which an output of an execution is stored."""
    return local.home / "s3" / BUCKET / "runs" / arn.rpartition("/")[2] / part


def has(local: Local, table: Table, field: str, value: str) -> bool:
    """True if the raw records contain this field value."""
    with records(local).read() as read:
        return any(item.get(field) == value for item in read.select(table))


MOMENTS: dict[str, Callable[[Local, str], bool]] = {
    "first output of Prepare stored": lambda local, arn: runs(local, arn, "prepared").exists(),
    "first output of Train stored": lambda local, arn: runs(local, arn, "trained").exists(),
    "job of Train recorded as Completed": lambda local, arn: state(local, arn) == "Train Executing Completed",
    "package recorded": lambda local, arn: has(
        local, Table.PACKAGES, "ModelPackageDescription", arn.rpartition("/")[2]
    ),
}
"""Moments between two related records or files; most are too short for a random instant."""


def kill_engine(local: Local, arn: str) -> bool:
    """Kill -9 of the execution's engine; False when it has ended."""
    with records(local).read() as read:
        pid = executions.read(read, arn)["_engine"]["pid"]
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if arn in process.cmdline():
            process.kill()
            wait_until(lambda: not process.is_running() or process.status() == "zombie", 5)
            return True
    return False


def kill_engine_when(local: Local, arn: str, is_met: Callable[[Local, str], bool]) -> bool:
    """Kill the engine when a condition is met, under the writer's lock, so that no record is written in between."""
    while state(local, arn) != "ended":
        with records(local).write():
            if is_met(local, arn):
                return kill_engine(local, arn)
        time.sleep(0.001)
    return False


def kill_job(local: Local, arn: str) -> bool:
    """Kill -9 of the first process of the job that runs, or of the next one; False when the execution ends first."""
    while state(local, arn) != "ended":
        for process in processes_of(arn):
            with suppress(psutil.Error):
                if "containers/tiny/main.py" in process.cmdline():
                    process.kill()
                    return True
        time.sleep(0.005)
    return False


@pytest.fixture(params=["0", "5"], ids=["cold", "warm"])
def tidy(
    local: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Local]:
    """A local backend with a separate temporary folder for engines and jobs, which start cold or warm."""
    monkeypatch.setenv(MINUTES_VARIABLE, request.param)
    (tmp_path / "t").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "t"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield local
    assert bool(servers(local)) == (request.param != "0")
    for server in servers(local):
        server.kill()


def duration(local: Local, arn: str) -> float:
    """Seconds from an execution's start to its end."""
    with records(local).read() as read:
        ended = executions.read(read, arn)
    return float(ended["LastModifiedTime"] - ended["CreationTime"])


def instants(rounds: int) -> Iterator[tuple[int, float]]:
    """Each round's number and the instant of its kill, as a share of a run's duration."""
    draw = random.Random(SEED)  # noqa: S311 (a test's)
    for number in range(rounds):
        yield number, (number + draw.random()) / rounds


def killed_runs(local: Local, kill: Kill) -> Iterator[tuple[str, bool, View]]:
    """Alternate killed and undisturbed runs; yields the state at the kill, whether it hit, and the view."""
    steps = pipeline(local)
    known = [undisturbed_run(local, steps)]
    durations = [duration(local, known[0][0])]
    for number, share in instants(ROUNDS):
        arn = local.start(steps)
        time.sleep(share * min(durations))  # the first run may have been slow
        hit = kill(local, arn)
        met = state(local, arn)
        if kill is kill_job:  # its engine runs and ends the execution
            wait_until(lambda arn=arn: state(local, arn) == "ended")
        view = check(local, arn, number)
        yield met, hit, view
        known += [(arn, view), undisturbed_run(local, steps)]
        durations.append(duration(local, known[-1][0]))
    for arn, view in known:
        assert check(local, arn, 0) == view


def undisturbed_run(local: Local, steps: list[dict[str, Any]]) -> tuple[str, View]:
    """Run to the end and assert success."""
    arn = local.start(steps)
    wait_until(lambda: state(local, arn) == "ended", 60)
    wait_until(lambda: not processes_of(arn), 5)
    view = check(local, arn, 0)
    assert view.status == "Succeeded", view
    return arn, view


def report(capsys: pytest.CaptureFixture[str], title: str, states: Counter[str]) -> None:
    """Print the number of kills per state."""
    with capsys.disabled():
        print(f"\n{title}: {sum(states.values())} rounds; {dict(sorted(states.items()))}")


def test_engine_killed_at_any_instant(tidy: Local, capsys: pytest.CaptureFixture[str]) -> None:
    """The execution is Failed ("engine died") or had ended, no files are left, and the next run succeeds."""
    states: Counter[str] = Counter()
    for met, hit, view in killed_runs(tidy, kill_engine):
        states[met if hit else "not hit"] += 1
        expected = "Succeeded" if met == "ended" else "Failed"
        assert view.status == expected, (met, view)
        assert ("engine died" in view.reason) == (expected == "Failed"), view
    report(capsys, "engine killed", states)
    assert states.total() - states["not hit"] - states["ended"] >= ROUNDS // 4


def test_engine_killed_between_related_records(tidy: Local, capsys: pytest.CaptureFixture[str]) -> None:
    """Outputs and their job, a job and its step, a package and its step stay consistent if the kill is between them."""
    states: Counter[str] = Counter()
    steps = pipeline(tidy)
    for number in range(MARK_ROUNDS):
        for moment, is_met in MOMENTS.items():
            arn = tidy.start(steps)
            hit = kill_engine_when(tidy, arn, is_met)
            states[f"{moment}: {state(tidy, arn) if hit else 'not hit'}"] += 1
            check(tidy, arn, number)
    report(capsys, "engine killed right after", states)
    undisturbed_run(tidy, steps)


def test_job_killed_at_any_instant(tidy: Local, capsys: pytest.CaptureFixture[str]) -> None:
    """Its step and its execution are Failed by signal 9, no files are left, and the next run succeeds."""
    states: Counter[str] = Counter()
    for met, hit, view in killed_runs(tidy, kill_job):
        states[met if hit else "not hit"] += 1
        failed = [step for step in view.steps.values() if step["StepStatus"] == "Failed"]
        assert len(failed) == (view.status == "Failed"), view
        assert all("signal 9 (SIGKILL)" in step["FailureReason"] for step in failed), view
        assert hit or view.status == "Succeeded", view
        states["failed by it"] += view.status == "Failed"
    failures = states.pop("failed by it")
    report(capsys, f"job killed ({failures} executions failed by it)", states)
    assert failures >= ROUNDS // 4


def test_writer_killed_at_any_instant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two writers start without a database, one is killed: its commits are complete, and the other continues."""
    begin = time.monotonic()
    assert all(process.wait(60) == 0 for process in [writer(tmp_path / "db", name) for name in "ab"])
    states: Counter[str] = Counter()
    lengths = [time.monotonic() - begin]
    for number, share in instants(WRITER_ROUNDS):
        path = tmp_path / f"{number}.db"
        begin = time.monotonic()
        killed, other = writer(path, "a"), writer(path, "b")
        time.sleep(share * statistics.median(lengths))  # the first pair may have been slow
        killed.kill()
        num_acknowledged = acknowledged(killed)
        assert other.wait(60) == 0
        lengths.append(time.monotonic() - begin)
        with Store(path).write() as write:
            count = (write.get(Table.TAGS, "count") or {})["n"]
            written = [write.get(Table.TAGS, f"a-{n}") is not None for n in range(60)]
            assert written == sorted(written, reverse=True)  # no gap
            assert num_acknowledged <= sum(written) <= num_acknowledged + 1
            assert count == sum(written) + 60 == len(write.select(Table.TAGS)) - 1
        moment = {0: "before the first write", 60: "ended"}.get(num_acknowledged, "between writes")
        states[moment] += 1
    report(capsys, "store writer killed", states)
    assert states["between writes"] >= WRITER_ROUNDS // 4


def acknowledged(process: subprocess.Popen[str]) -> int:
    """The number of commits that a dead writer had printed."""
    assert process.stdout is not None
    process.wait()
    return process.stdout.read().count("\n")
