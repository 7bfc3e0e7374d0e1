"""An account whose content a test writes down as plain fields, on a local backend that answers for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from botocore import xform_name

from medloop.local.jobs.job import KINDS, TRAINING, TUNING, JobKind
from medloop.local.processes import own_identity
from medloop.local.session import local_session
from medloop.local.state.backend import Backend
from medloop.local.state.log_streams import LogStream
from medloop.local.state.store import Table, Transaction
from medloop.local.tuning import tuning_jobs
from medloop.s3_uri import split_s3_uri

START = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
ARN = "arn:aws:sagemaker:us-east-1:000000000000"


@dataclass
class Account:
    """The content of an account on a local backend of its own. Tests fill the fields; each call first records them.

    Requests that start, stop or retry an execution aren't left to the backend, which would run it: `calls` keeps them.
    """

    home: Path
    executions: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    packages: list[dict[str, Any]] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    logs: dict[str, list[str]] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    definitions: dict[str, str] = field(default_factory=dict)
    _recorded: str = ""

    def __post_init__(self) -> None:
        """Open the session; its every call meets the fields as they are then."""
        self.boto = local_session(self.home)
        self.boto.events.register("before-parameter-build", self._record)
        for operation in ("Start", "Stop", "Retry"):
            self.boto.events.register(f"before-call.sagemaker.{operation}PipelineExecution", self._change)

    def add_execution(self, identifier: str, status: str, pipeline: str = "classification", **more: Any) -> str:
        """An execution, each an hour younger than the one before; returns its ARN."""
        arn = f"{ARN}:pipeline/{pipeline}/execution/{identifier}"
        began = START + timedelta(hours=len(self.executions))
        self.executions[arn] = {
            "PipelineExecutionArn": arn,
            "PipelineExecutionStatus": status,
            "CreationTime": began,
            "LastModifiedTime": began + timedelta(seconds=95),
            **more,
        }
        self.steps[arn] = []
        return arn

    def add_step(self, arn: str, name: str, status: str, metadata: dict[str, Any] | None = None, **more: Any) -> None:
        """A step of an execution."""
        began = self.executions[arn]["CreationTime"] + timedelta(seconds=len(self.steps[arn]))
        step = {"StepName": name, "StepStatus": status, "StartTime": began, "Metadata": metadata or {}, **more}
        if status != "Executing":
            step["EndTime"] = began + timedelta(seconds=30)
        self.steps[arn].append(step)

    def start_pipeline_execution(self, **request: Any) -> dict[str, Any]:
        """StartPipelineExecution: it runs, and nothing runs it."""
        self.calls.append(("start", request))
        return {"PipelineExecutionArn": self.add_execution("fresh0000000", "Executing")}

    def stop_pipeline_execution(self, **request: Any) -> dict[str, Any]:
        """StopPipelineExecution."""
        self.calls.append(("stop", request))
        return {}

    def retry_pipeline_execution(self, **request: Any) -> dict[str, Any]:
        """RetryPipelineExecution."""
        self.calls.append(("retry", request))
        self.executions[request["PipelineExecutionArn"]]["PipelineExecutionStatus"] = "Executing"
        return request

    def _change(self, model: Any, context: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]]:
        request = {key: value for key, value in context["medloop_params"].items() if key != "ClientRequestToken"}
        return SimpleNamespace(status_code=200), getattr(self, xform_name(model.name))(**request)

    def _record(self, **_: Any) -> None:
        content = (self.executions, self.steps, self.jobs, self.packages, self.objects, self.logs, self.definitions)
        if repr(content) == self._recorded:
            return
        self._recorded, backend = repr(content), Backend.open(self.home)
        with backend.store.write() as write:
            for table in Table:
                write.db.execute(f"DELETE FROM {table}")  # noqa: S608 (Table)
            self._record_pipelines(write)
            kinds = {
                name: kind for steps in self.steps.values() for name, kind in _record_jobs(write, steps, self.jobs)
            }
            for package in self.packages:
                group = package["ModelPackageGroupName"]
                known = {"ModelPackageGroupName": group, "CreationTime": START.timestamp()}
                write.put(Table.GROUPS, group, {**known, "ModelPackageGroupArn": f"{ARN}:model-package-group/{group}"})
                record = {"ModelPackageName": group, "CreationTime": START, **package}
                write.put(Table.PACKAGES, package["ModelPackageArn"], _in_seconds(record), parent=group)
        shutil.rmtree(backend.home.buckets, ignore_errors=True)
        backend.objects.create_bucket("bucket")
        for uri, content in self.objects.items():
            backend.objects.put(*split_s3_uri(uri), content)
        for stream, lines in self.logs.items():
            group = kinds.get(stream.partition("/")[0], TRAINING).type.log_group
            log = LogStream.in_group(backend.home, group, *stream.split("/"))
            log.path.write_text("".join(f"0 {line}\n" for line in lines), encoding="utf-8", newline="")

    def _record_pipelines(self, write: Transaction) -> None:
        names = {arn.split(":pipeline/")[1].split("/")[0] for arn in self.executions}
        time = START.timestamp()
        for name in sorted({*names, *(key for key in self.definitions if ":" not in key)}):
            times = {"CreationTime": time, "LastModifiedTime": time, "_version": 1}
            pipeline = {"PipelineName": name, "PipelineArn": f"{ARN}:pipeline/{name}", **times}
            write.put(Table.PIPELINES, name, {**pipeline, "PipelineDefinition": self.definitions.get(name, "{}")})
        for arn, execution in self.executions.items():
            pipeline_arn = arn.partition("/execution/")[0]
            execution_fields = {"PipelineArn": pipeline_arn, "_engine": own_identity(), "_parameters": {"Epochs": "3"}}
            record = _in_seconds({**execution_fields, "_definition": self.definitions.get(arn, "{}"), **execution})
            write.put(Table.EXECUTIONS, arn, record, parent=pipeline_arn.rpartition("/")[2])
            for step in self.steps[arn]:
                write.put(Table.STEPS, f"{arn}/{step['StepName']}", _in_seconds(step), parent=arn)


def _record_jobs(
    write: Transaction, steps: list[dict[str, Any]], jobs: dict[str, dict[str, Any]]
) -> Iterator[tuple[str, JobKind]]:
    """Record the jobs that steps name, and the trials of those that tune; yields names and kinds."""
    time, kinds = START.timestamp(), {kind.name: kind for kind in KINDS}
    for step in steps:
        for field_name, value in step["Metadata"].items():
            name = value.get("Arn", "").rpartition("/")[2]
            common = {"CreationTime": time, "LastModifiedTime": time, "_supervisor": own_identity()}
            if kind := kinds.get(field_name):
                common |= {kind.name_field: name, kind.status: "Completed", f"{kind.name}Arn": value["Arn"]}
                write.put(kind.table, name, _in_seconds({**common, **jobs.get(name, {})}))
                yield name, kind
            elif field_name == "TuningJob":
                common |= {tuning_jobs.NAME: name, tuning_jobs.ARN: TUNING.arn(name)}
                write.put(Table.TUNING_JOBS, name, _in_seconds({**common, **jobs[name]}))
                for trial in jobs[name]["trials"]:
                    tuning_fields = {"TuningJobArn": TUNING.arn(name), "_tuned": trial["TunedHyperParameters"]}
                    if objective := trial.get(tuning_jobs.OBJECTIVE):
                        tuning_fields["FinalMetricDataList"] = [{**objective, "Timestamp": START}]
                    record = {**common, **trial, **tuning_fields, **jobs.get(trial["TrainingJobName"], {})}
                    write.put(Table.TRAINING_JOBS, trial["TrainingJobName"], _in_seconds(record))


def _in_seconds(value: Any) -> Any:
    """A copy of a record with its times as the backend keeps them."""
    if isinstance(value, dict):
        return {key: _in_seconds(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_in_seconds(item) for item in value]
    return value.timestamp() if isinstance(value, datetime) else value
