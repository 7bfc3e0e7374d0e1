# ruff: noqa: D102, N803 (the methods and their arguments bear the service's own names and meaning)
"""An in-memory account that speaks as boto3's clients do, and a way to run commands against it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from medloop.cli import main
from medloop.commands.options import Services
from tests.unit.cli.versions import EVALUATION

START = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
ARN = "arn:aws:sagemaker:us-east-1:000000000000"


@dataclass
class Account:
    """What the account holds. Tests fill the fields; the methods answer as the service does, one item a page."""

    executions: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    packages: list[dict[str, Any]] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    logs: dict[str, list[str]] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    definitions: dict[str, str] = field(default_factory=dict)

    def get_paginator(self, operation: str) -> SimpleNamespace:
        """Pages of a list operation, as boto3's paginators give them."""
        return SimpleNamespace(paginate=partial(_pages, getattr(self, operation)))

    def describe_pipeline(self, PipelineName: str) -> dict[str, Any]:
        if PipelineName not in self.definitions:
            raise _refusal("ResourceNotFound", "DescribePipeline", f"Pipeline '{PipelineName}' does not exist.")
        return {"PipelineDefinition": self.definitions[PipelineName]}

    def add_execution(self, identifier: str, status: str, pipeline: str = "classification", **more: Any) -> str:
        """An execution, each an hour younger than the one before; returns its ARN."""
        arn = f"{ARN}:pipeline/{pipeline}/execution/{identifier}"
        began = START + timedelta(hours=len(self.executions))
        self.executions[arn] = {
            "PipelineExecutionArn": arn,
            "PipelineExecutionStatus": status,
            "CreationTime": began,
            "StartTime": began,
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

    def list_pipelines(self, **page: Any) -> dict[str, Any]:
        names = sorted({arn.split(":pipeline/")[1].split("/")[0] for arn in self.executions})
        return _page("PipelineSummaries", [{"PipelineName": name} for name in names], page)

    def list_pipeline_executions(self, PipelineName: str, **page: Any) -> dict[str, Any]:
        found = [e for arn, e in self.executions.items() if f":pipeline/{PipelineName}/" in arn]
        return _page("PipelineExecutionSummaries", found, page)

    def describe_pipeline_execution(self, PipelineExecutionArn: str) -> dict[str, Any]:
        return self.executions[PipelineExecutionArn]

    def list_pipeline_execution_steps(self, PipelineExecutionArn: str, **page: Any) -> dict[str, Any]:
        return _page("PipelineExecutionSteps", list(reversed(self.steps[PipelineExecutionArn])), page)

    def list_pipeline_parameters_for_execution(self, PipelineExecutionArn: str, **page: Any) -> dict[str, Any]:
        return _page("PipelineParameters", [{"Name": "Epochs", "Value": "3"}], page)

    def start_pipeline_execution(self, **request: Any) -> dict[str, Any]:
        self.calls.append(("start", request))
        return {"PipelineExecutionArn": self.add_execution("fresh0000000", "Executing")}

    def stop_pipeline_execution(self, PipelineExecutionArn: str, ClientRequestToken: str) -> dict[str, Any]:
        self.calls.append(("stop", {"PipelineExecutionArn": PipelineExecutionArn}))
        return {}

    def retry_pipeline_execution(self, PipelineExecutionArn: str, ClientRequestToken: str) -> dict[str, Any]:
        self.calls.append(("retry", {"PipelineExecutionArn": PipelineExecutionArn}))
        self.executions[PipelineExecutionArn]["PipelineExecutionStatus"] = "Executing"
        return {"PipelineExecutionArn": PipelineExecutionArn}

    def describe_training_job(self, TrainingJobName: str) -> dict[str, Any]:
        return self.jobs[TrainingJobName]

    def describe_processing_job(self, ProcessingJobName: str) -> dict[str, Any]:
        return self.jobs[ProcessingJobName]

    def describe_hyper_parameter_tuning_job(self, HyperParameterTuningJobName: str) -> dict[str, Any]:
        return self.jobs[HyperParameterTuningJobName]

    def list_training_jobs_for_hyper_parameter_tuning_job(
        self, HyperParameterTuningJobName: str, SortBy: str, SortOrder: str, **page: Any
    ) -> dict[str, Any]:
        return _page("TrainingJobSummaries", self.jobs[HyperParameterTuningJobName]["trials"], page)

    def describe_pipeline_definition_for_execution(self, PipelineExecutionArn: str) -> dict[str, Any]:
        return {"PipelineDefinition": self.definitions[PipelineExecutionArn]}

    def list_model_package_groups(self, **page: Any) -> dict[str, Any]:
        names = sorted({p["ModelPackageGroupName"] for p in self.packages})
        return _page("ModelPackageGroupSummaryList", [{"ModelPackageGroupName": name} for name in names], page)

    def list_model_packages(self, ModelPackageGroupName: str, **page: Any) -> dict[str, Any]:
        found = [p for p in self.packages if p["ModelPackageGroupName"] == ModelPackageGroupName]
        return _page("ModelPackageSummaryList", found, page)

    def describe_model_package(self, ModelPackageName: str) -> dict[str, Any]:
        for package in self.packages:
            if package["ModelPackageArn"] == ModelPackageName:
                return package
        raise _refusal("ValidationException", "DescribeModelPackage", f"{ModelPackageName} does not exist.")

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        return {"Body": io.BytesIO(self.objects[f"s3://{Bucket}/{Key}"])}

    def list_objects_v2(self, Bucket: str, Prefix: str, **page: Any) -> dict[str, Any]:
        start = len(f"s3://{Bucket}/")
        found = [
            {"Key": uri[start:], "Size": len(data), "ETag": f'"{data.hex()}"'}
            for uri, data in self.objects.items()
            if uri.startswith(f"s3://{Bucket}/{Prefix}")
        ]
        return _page("Contents", found, page)

    def describe_log_streams(self, logGroupName: str, logStreamNamePrefix: str) -> dict[str, Any]:
        names = [name for name in self.logs if name.startswith(logStreamNamePrefix)]
        if not names:
            raise _refusal("ResourceNotFoundException", "DescribeLogStreams", f"no group {logGroupName}")
        return {"logStreams": [{"logStreamName": name} for name in names]}

    def get_log_events(
        self,
        logGroupName: str,
        logStreamName: str,
        startFromHead: bool,
        nextToken: str = "f/0",
    ) -> dict[str, Any]:
        done = int(nextToken[2:])
        lines = self.logs[logStreamName][done : done + 2]
        return {"events": [{"message": line} for line in lines], "nextForwardToken": f"f/{done + len(lines)}"}


def _pages(call: Callable[..., dict[str, Any]], **arguments: Any) -> Iterator[dict[str, Any]]:
    arguments.pop("PaginationConfig", None)
    page: dict[str, Any] | None = {}
    while page is not None:
        answer = call(**arguments, **page)
        yield answer
        page = {"NextToken": answer["NextToken"]} if "NextToken" in answer else None


def _page(key: str, items: list[Any], page: dict[str, Any]) -> dict[str, Any]:
    at = int(page.get("NextToken", "0"))
    more = {"NextToken": str(at + 1)} if at + 1 < len(items) else {}
    return {key: items[at : at + 1], **more}


def _refusal(code: str, operation: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


@dataclass
class CommandLine:
    """Runs commands against the account; `on_sleep` plays what happens while a command waits."""

    account: Account
    home: Path
    capsys: pytest.CaptureFixture[str]
    on_sleep: Callable[[], None] = lambda: None
    built: str = '{"Version": "2020-12-01", "Parameters": [], "Steps": []}'
    version: int | None = 7
    out: str = ""
    err: str = ""
    opened: list[tuple[str, Path]] = field(default_factory=list)

    def __call__(self, *argv: str) -> int:
        """Run one command; keeps what it printed."""
        services = Services(
            open_target=self._open,
            upsert=self._upsert,
            build=lambda target, resolved: self.built,
            sleep=lambda seconds: self.on_sleep(),
        )
        code = main([*argv], services)
        self.out, self.err = self.capsys.readouterr()
        return code

    @property
    def json(self) -> Any:
        """The last command's stdout, which must be one JSON document."""
        return json.loads(self.out)

    def _open(self, name: str, home: Path) -> Any:
        self.opened.append((name, home))
        boto = SimpleNamespace(client=lambda service: self.account)
        return SimpleNamespace(name=name, boto=boto, bucket="bucket")

    def _upsert(self, target: Any, resolved: Any) -> Any:
        self.account.calls.append(("upsert", {"name": resolved.spec.name}))
        return SimpleNamespace(arn=f"{ARN}:pipeline/{resolved.spec.name}", version=self.version)


@pytest.fixture
def account() -> Account:
    """An empty account."""
    return Account()


@pytest.fixture
def medloop(
    account: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    """The command line on that account, with a home folder of its own that does not exist yet."""
    home = tmp_path / "home"
    monkeypatch.setenv("MEDLOOP_HOME", str(home))
    monkeypatch.delenv("MEDLOOP_TARGET", raising=False)
    return CommandLine(account, home, capsys)


@pytest.fixture
def finished(account: Account) -> str:
    """ARN of an execution that trained, evaluated and registered a model."""
    arn = account.add_execution("abc123abc123", "Succeeded")
    train, evaluate, package = f"{ARN}:training-job/t-1", f"{ARN}:processing-job/e-1", f"{ARN}:model-package/g/1"
    account.add_step(arn, "Train", "Succeeded", {"TrainingJob": {"Arn": train}})
    account.add_step(arn, "Evaluate", "Succeeded", {"ProcessingJob": {"Arn": evaluate}})
    account.add_step(arn, "Gate", "Succeeded", {"Condition": {"Outcome": "True"}})
    account.add_step(arn, "Register-RegisterModel", "Succeeded", {"RegisterModel": {"Arn": package}})
    output = {"OutputName": "evaluation", "S3Output": {"S3Uri": "s3://bucket/e"}}
    account.jobs["e-1"] = {"ProcessingOutputConfig": {"Outputs": [output]}}
    account.objects["s3://bucket/e/evaluation.json"] = json.dumps(EVALUATION).encode()
    account.objects["s3://bucket/e/report.html"] = b"<html>report</html>"
    account.logs["t-1/algo-1"] = ["hello", "epoch=1; val_auroc=0.5;", "epoch=2; val_auroc=0.7;"]
    account.logs["e-1/algo-1"] = ["scored"]
    account.packages.append(
        {
            "ModelPackageArn": package,
            "ModelPackageGroupName": "g",
            "ModelPackageVersion": 1,
            "ModelApprovalStatus": "PendingManualApproval",
            "ModelPackageStatus": "Completed",
            "CreationTime": START,
            "CustomerMetadataProperties": {"data_version": "d1"},
            "ModelMetrics": {"ModelQuality": {"Statistics": {"S3Uri": "s3://bucket/e/evaluation.json"}}},
            "InferenceSpecification": {"Containers": [{"Image": "image:tag", "ModelDataUrl": "s3://bucket/m.tar.gz"}]},
        }
    )
    return arn
