"""The local engine: its part of a step, executions at once, long lists, and commands that build a definition.

    python benchmarks/local_engine.py
    python benchmarks/local_engine.py --parts steps --steps 40

Steps: a pipeline of Processing steps, one after another, whose main.py prints the time and ends; cold, then warm
(MEDLOOP_WARM_MINUTES). A step is divided into the interpreter's start (a process is started, until the first line of
main.py) and the engine's part, all the rest: from that line to the process of the next step. Medians, and the fastest
tenth, which other load on the host affects less; CPU time is that of the engine's process. Then the same number of
steps in eight executions at once, and the start of a container, where a container engine runs.
`benchmarks/warm_jobs.py` measures jobs that import torch and MONAI.

Lists: `executions list` with 10, 100 and 1,000 recorded executions.

Commands: `pipelines definition`, and `run` on unchanged data, whose jobs come from the step cache, each built and
remembered in turn, so that other load on the host affects both. Lists and commands run in a process of their own; the
minimum counts. CPU time is that of the command, without the engine's process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from warm_jobs import require, store_image
from workshop import report

from medloop.cloud.definition_cache import CACHE_VARIABLE
from medloop.local.jobs.warm import MINUTES_VARIABLE
from medloop.local.session import local_session
from medloop.local.state.backend import Backend
from medloop.local.state.home import HOME_VARIABLE, ROLE_ARN
from medloop.local.state.store import Table

NEVER_STORED = "/dev/null/none"
SMALL = ("--set", "smoke=true", *(f"--param={text}" for text in ("ModelName=resnet18", "Epochs=1", "MinScore=0")))
DEFINITION = ("pipelines", "definition", "classification")
PARTS = ("steps", "lists", "commands")
PROGRAM = 'import time\nprint(f"line={time.time()};", flush=True)\n'
NUM_CONCURRENT = 8
RECORDED = (10, 100, 1000)
POLL_SECONDS = 0.1
FASTEST = "engine, fastest tenth, s"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    args = _arguments(argv)
    print(report.header("the local engine"))
    os.environ["MEDLOOP_TARGET"] = "local"
    with tempfile.TemporaryDirectory(prefix="medloop-benchmark-") as scratch:
        for part in args.parts:
            {"steps": measure_steps, "lists": measure_lists, "commands": measure_commands}[part](args, Path(scratch))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--steps", type=int, default=40, help=f"steps of the pipeline; a multiple of {NUM_CONCURRENT}")
    parser.add_argument("--recorded", type=int, nargs="+", default=RECORDED, help="numbers of recorded executions")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each command")
    parser.add_argument("--definition-only", action="store_true", help="without `run`, whose first run trains")
    parser.add_argument("--image", help="a container image with python, to measure a container's start")
    return parser.parse_args(argv)


def measure_steps(args: argparse.Namespace, scratch: Path) -> None:
    """Print the parts of a step, and the steps a second of executions at once."""
    columns = ["job", "a step, s", "interpreter, s", "engine, s", FASTEST, "engine's CPU, s", "steps a second"]
    for kind, minutes in {"cold": "0", "warm": "10"}.items():
        os.environ[MINUTES_VARIABLE] = minutes
        lab = Lab(scratch / kind)
        lab.create("all", args.steps)
        lab.create("part", args.steps // NUM_CONCURRENT)
        lab.run("part")  # the server of warm jobs starts
        begin = time.monotonic()
        (ended,) = lab.run("all")
        rate = args.steps / (time.monotonic() - begin)
        parts = lab.parts(ended)
        begin = time.monotonic()
        lab.run(*["part"] * NUM_CONCURRENT)
        together = args.steps / (time.monotonic() - begin)
        rows = [
            [f"{kind}, one after another", *parts, ended.cpu / args.steps, rate],
            [f"{kind}, {NUM_CONCURRENT} executions at once", *[None] * (len(parts) + 1), together],
        ]
        report.print_table(columns, rows)
    print(container_start(args.image), "\n")


@dataclass
class Execution:
    """An execution that ended, and the CPU seconds of its engine as far as they were seen."""

    arn: str
    cpu: float = 0.0


class Lab:
    """Pipelines of trivial steps in one home."""

    def __init__(self, home: Path) -> None:
        self.backend = Backend.open(home)
        boto = local_session(home)
        self.sagemaker, self.logs = boto.client("sagemaker"), boto.client("logs")
        self.image = store_image(boto.client("s3"), PROGRAM, ["json"])

    def create(self, name: str, num_steps: int) -> None:
        """Create a pipeline of steps, one after another."""
        cluster = {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10}
        arguments = {"ProcessingResources": {"ClusterConfig": cluster}, "AppSpecification": {"ImageUri": self.image}}
        steps: list[dict[str, Any]] = [
            {"Name": f"Step{number}", "Type": "Processing", "Arguments": {**arguments, "RoleArn": ROLE_ARN}}
            for number in range(num_steps)
        ]
        for before, step in pairwise(steps):
            step["DependsOn"] = [before["Name"]]
        definition = json.dumps({"Version": "2020-12-01", "Parameters": [], "Steps": steps})
        self.sagemaker.create_pipeline(PipelineName=name, PipelineDefinition=definition, RoleArn=ROLE_ARN)

    def run(self, *names: str) -> list[Execution]:
        """Start an execution of each pipeline at once, and wait for their ends."""
        start = self.sagemaker.start_pipeline_execution
        executions = [Execution(start(PipelineName=name)["PipelineExecutionArn"]) for name in names]
        for execution in executions:
            self._wait(execution)
        return executions

    def _wait(self, execution: Execution) -> None:
        with self.backend.store.read() as read:
            process = (read.get(Table.EXECUTIONS, execution.arn) or {})["_engine"]["pid"]
        describe = self.sagemaker.describe_pipeline_execution
        while (shown := describe(PipelineExecutionArn=execution.arn))["PipelineExecutionStatus"] == "Executing":
            with suppress(psutil.NoSuchProcess):
                execution.cpu = sum(psutil.Process(process).cpu_times()[:2])
            time.sleep(POLL_SECONDS)
        require(shown["PipelineExecutionStatus"] == "Succeeded", shown.get("FailureReason", ""))

    def parts(self, execution: Execution) -> list[float]:
        """Median seconds of a step: in all, of its interpreter's start, of the engine; the fastest tenth's of that."""
        times = sorted(self._times(execution.arn))
        steps = [after - before for (_, before), (_, after) in pairwise(times)]
        interpreters = [line - started for started, line in times]
        engine = [started - before for (_, before), (started, _) in pairwise(times)]
        fastest = statistics.quantiles(engine, n=10, method="inclusive")[0]
        return [*map(statistics.median, (steps, interpreters, engine)), fastest]

    def _times(self, arn: str) -> Iterator[tuple[float, float]]:
        """Of each step: when its process was started, and when main.py ran."""
        pages = self.sagemaker.get_paginator("list_pipeline_execution_steps").paginate(PipelineExecutionArn=arn)
        for step in (step for page in pages for step in page["PipelineExecutionSteps"]):
            name = step["Metadata"]["ProcessingJob"]["Arn"].rpartition("/")[2]
            job = self.sagemaker.describe_processing_job(ProcessingJobName=name)
            log = {"logGroupName": "/aws/sagemaker/ProcessingJobs", "logStreamName": f"{name}/algo-1"}
            text = " ".join(event["message"] for event in self.logs.get_log_events(**log)["events"])
            require("not started warm" not in text, text)
            yield job["ProcessingStartTime"].timestamp(), float(text.partition("line=")[2].partition(";")[0])


def container_start(image: str | None) -> str:
    """The seconds that a container engine takes to start and end a container that does nothing, if one runs here."""
    for name in filter(shutil.which, ("docker", "podman")):
        if image and subprocess.run([name, "info"], capture_output=True, check=False).returncode == 0:  # noqa: S603
            command = [name, "run", "--rm", image, "python", "-c", "pass"]
            subprocess.run(command, check=True)  # noqa: S603 (the image is there afterwards)
            begin = time.monotonic()
            subprocess.run(command, check=True)  # noqa: S603
            return f"{name} run --rm {image}: {time.monotonic() - begin:.2f} s"
    return "A container's start was not measured: no container engine runs here, or no --image was given."


def measure_lists(args: argparse.Namespace, scratch: Path) -> None:
    """Print the time of `executions list` by the number of recorded executions."""
    lab = Lab(scratch / "lists")
    lab.create("all", args.steps)
    lab.create("part", 1)
    (model,) = lab.run("part")
    columns = ["executions", "wall, s", "CPU, s", "CPU, as a multiple of the first row's"]
    rows: list[list[object]] = []
    for count in args.recorded:
        record_copies(lab, model.arn, count)
        command, variables = ("executions", "list", "all"), {HOME_VARIABLE: str(scratch / "lists")}
        taken = [seconds(command, variables) for _ in range(args.repeats)]
        wall, cpu = (min(clock) for clock in zip(*taken, strict=True))
        rows.append([count, wall, cpu, report.ratio(cpu, float(str(rows[0][2])) if rows else cpu)])
    report.print_table(columns, rows)


def record_copies(lab: Lab, arn: str, count: int) -> None:
    """Record executions of the pipeline `all` until there are so many; each contains its definition."""
    pipeline = lab.sagemaker.describe_pipeline(PipelineName="all")
    definition = {"PipelineArn": pipeline["PipelineArn"], "_definition": pipeline["PipelineDefinition"]}
    with lab.backend.store.write() as write:
        model = write.get(Table.EXECUTIONS, arn) or {}
        for number in range(count):
            copy = f"{pipeline['PipelineArn']}/execution/copy{number:08}"
            fields = {"PipelineExecutionArn": copy, "CreationTime": model["CreationTime"] + number}
            write.put(Table.EXECUTIONS, copy, {**model, **definition, **fields}, parent="all")


def measure_commands(args: argparse.Namespace, scratch: Path) -> None:
    """Print the time of commands that build a definition."""
    commands = {"pipelines definition": DEFINITION}
    if not args.definition_only:
        data = scratch / "data"
        write_images(data)
        commands["run, unchanged"] = ("run", "classification", "--data", str(data), *SMALL)
    columns = ["command", "seconds of", "built", "remembered", "built / remembered"]
    rows = (row for name, arguments in commands.items() for row in command_rows(name, arguments, scratch, args.repeats))
    report.print_table(columns, rows)


def write_images(folder: Path, num_images: int = 20) -> None:
    """Write a data set of two classes of noise, one brighter than the other."""
    random = np.random.default_rng(0)
    for shift, name in ((0, "dark"), (120, "bright")):
        (folder / name).mkdir(parents=True)
        for number in range(num_images):
            pixels = (shift + random.integers(0, 100, (48, 48))).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03}.png")


def command_rows(name: str, arguments: Sequence[str], folder: Path, repeats: int) -> list[list[object]]:
    """Wall and CPU seconds of a command, built and remembered, after one run of it that isn't measured."""
    caches = (NEVER_STORED, str(folder / "cache"))
    home = {HOME_VARIABLE: str(folder / "home")}
    seconds(arguments, home | {CACHE_VARIABLE: caches[1]})
    taken = [[seconds(arguments, home | {CACHE_VARIABLE: cache}) for cache in caches] for _ in range(repeats)]
    rows: list[list[object]] = []
    for index, clock in enumerate(("wall time", "CPU time")):
        built, remembered = (min(pair[which][index] for pair in taken) for which in (0, 1))
        rows.append([name, clock, built, remembered, report.ratio(built, remembered)])
    return rows


def seconds(arguments: Sequence[str], variables: Mapping[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command in a new process.

    Raises:
        RuntimeError: The command fails.
    """
    command = [sys.executable, "-m", "medloop.cli", *arguments]
    started = time.perf_counter()
    silent = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
    process = os.posix_spawn(sys.executable, command, {**os.environ, **variables}, file_actions=silent)
    _, status, usage = os.wait4(process, 0)
    if status != 0:
        raise RuntimeError(f"medloop {' '.join(arguments)}: exit status {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
