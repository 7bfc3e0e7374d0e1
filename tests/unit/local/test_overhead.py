"""What a step costs besides its program: transactions, which wait for the disk, and waits for its process."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from medloop.errors import TargetError
from medloop.local import processes
from medloop.local.engine.engine import run_execution
from medloop.local.jobs.job import PROCESSING, TRAINING, create_own_job, num_running
from medloop.local.state.backend import Backend
from medloop.local.state.objects import Objects
from medloop.local.state.store import Document, Store, Table, Transaction
from tests.unit.local.conftest import Local
from tests.unit.local.steps import compare, condition, processing, training

ARN = "arn:aws:sagemaker:us-east-1:000000000000:pipeline/p/execution/e"


class CountingStore(Store):
    """Counts its write transactions."""

    num_writes = 0

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """See Store."""
        self.num_writes += 1
        with super().write() as transaction:
            yield transaction


def run(home: Path, steps: list[dict[str, Any]]) -> tuple[list[Document], int]:
    """Run an execution of these steps in this process; returns their records and the number of its transactions."""
    plain = Backend.open(home)
    store = CountingStore(plain.home.database, plain.home.folder)
    backend = Backend(plain.home, store, Objects(plain.home, store))
    execution = {
        "PipelineExecutionArn": ARN,
        "PipelineArn": ARN.partition("/execution")[0],
        "PipelineExecutionStatus": "Executing",
        "CreationTime": 0.0,
        "_definition": json.dumps({"Version": "2020-12-01", "Steps": steps}),
        "_parameters": {},
    }
    with plain.store.write() as write:
        write.put(Table.PIPELINES, "p", {})
        write.put(Table.EXECUTIONS, ARN, execution, parent="p")
    run_execution(backend, ARN, threading.Event())
    with plain.store.read() as read:
        records = read.select(Table.STEPS, ARN)
    assert [record["StepStatus"] for record in records] == ["Succeeded"] * len(steps)
    return records, store.num_writes


def test_the_end_of_a_step_and_the_start_of_the_next_are_one_transaction(tmp_path: Path) -> None:
    """One for each step, one for the first start, one for the execution's end; the times are in order."""
    steps = [condition(f"S{number}", compare("Equals", 1, 1)) for number in range(10)]
    for before, after in pairwise(steps):
        after["DependsOn"] = [before["Name"]]
    records, num_writes = run(tmp_path / "home", steps)
    assert num_writes == 12
    times = [time for record in records for time in (record["StartTime"], record["EndTime"])]
    assert times == sorted(times)


@pytest.mark.slow
@pytest.mark.parametrize(("step", "most"), [(processing, 3), (training, 4)])
def test_a_job_needs_few_transactions(local: Local, step: Any, most: int) -> None:
    """It is recorded, its process is, a training job's upload, and its end; the step has two, the execution one."""
    _, num_writes = run(local.home, [step("Job", local.image("print('done')"))])
    assert num_writes == most + 3


def start(folder: Path, code: str) -> processes.Process:
    """Start a Python program."""
    return processes.start([sys.executable, "-S", "-c", code], cwd=folder, env={})


@pytest.fixture(params=[True, False], ids=["pidfd", "polled"])
def reported(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that reports the end of a process, and one that doesn't."""
    if not request.param:
        monkeypatch.delattr(os, "pidfd_open", raising=False)


@pytest.mark.usefixtures("reported")
def test_the_end_of_a_process_is_seen_when_it_comes(tmp_path: Path) -> None:
    """Not at the end of the time; before, it hasn't ended; after, it still isn't reaped."""
    process = start(tmp_path, "import time; time.sleep(0.2)")
    assert not process.has_ended(0.001)
    began = time.monotonic()
    while not process.has_ended(20):
        assert time.monotonic() - began < 20
    assert time.monotonic() - began < 20
    process.signal_group(signal.SIGKILL)  # its group's number is still its own
    assert process.wait() == 0


def test_only_jobs_with_a_folder_are_read_to_count_those_that_run(tmp_path: Path) -> None:
    """An ended job that is cleared costs nothing, not even if its record is damaged; others' kinds count as well."""
    backend = Backend.open(tmp_path / "home")
    requests: dict[str, Any] = {"a": (PROCESSING, processing), "b": (TRAINING, training), "old": (TRAINING, training)}
    with backend.store.write() as write:
        for name, (kind, step) in requests.items():
            create_own_job(write, kind, {**step("Step", "image")["Arguments"], kind.name_field: name})
        write.db.execute("UPDATE training_jobs SET document = '{' WHERE key = 'old'")
    for name in ("a", "b", "unknown"):
        backend.home.job(name).mkdir(parents=True)
    assert num_running(backend) == 2
    backend.home.job("old").mkdir()
    with pytest.raises(TargetError, match="the record old of table training_jobs"):
        num_running(backend)


def test_a_page_of_executions_reads_its_own_only(local: Local) -> None:
    """A damaged record is met on its own page, by name; pages before it come, in the order of their times."""
    definition = json.dumps({"Version": "2020-12-01", "Steps": [condition("S", compare("Equals", 1, 1))]})
    local.sagemaker.create_pipeline(PipelineName="p", PipelineDefinition=definition, RoleArn="arn:aws:iam::1:role/role")
    arns = [f"{ARN}{number:02}" for number in range(12)]
    with Store(local.home / "medloop.db").write() as write:
        for number, arn in enumerate(arns):
            record = {"PipelineExecutionArn": arn, "PipelineExecutionStatus": "Succeeded", "CreationTime": 100 - number}
            write.put(Table.EXECUTIONS, arn, record, parent="p")
        write.db.execute("UPDATE executions SET document = '{' WHERE key = ?", (arns[-1],))
    request: dict[str, Any] = {"PipelineName": "p", "SortOrder": "Descending", "MaxResults": 5}
    listed: list[str] = []
    for _ in range(2):
        page = local.sagemaker.list_pipeline_executions(**request)
        listed += [item["PipelineExecutionArn"] for item in page["PipelineExecutionSummaries"]]
        request["NextToken"] = page["NextToken"]
    assert listed == arns[:10]
    with pytest.raises(TargetError, match=f"the record {arns[-1]} of table executions"):
        local.sagemaker.list_pipeline_executions(**request)
