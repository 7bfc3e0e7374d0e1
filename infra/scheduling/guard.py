"""Decide if a trigger may start its pipeline now: the function of the guard's state machine (retraining.asl.json).

A trigger is a schedule's request or the arrival of a manifest. The answer is `start` with StartPipelineExecution's
request, `wait` where an execution of the pipeline runs, or `skip` where nothing changed since the last successful one.

Two guards may look at the same moment. Both then name the same newest execution in their token, and the service makes
one execution of one token: "at most one" needs no lock of our own. The other guard is refused, or is given the first
one's execution: so it checks whether the running execution is the requested one, and waits if it is not.

Standard library and boto3 only: the function's runtime has no other package.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3

from medloop.errors import DataError, SettingError
from medloop.input_data import MANIFEST, data_version, recordable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker.type_defs import PipelineExecutionSummaryTypeDef


RUNNING = frozenset({"Executing", "Stopping"})
RAW = "raw"
"""The data bucket's prefix of data sets: raw/<pipeline>/<data set>/."""


@dataclass(frozen=True)
class Trigger:
    """A pipeline and its parameters, as a trigger requests them.

    Args:
        pipeline: The pipeline's name.
        parameters: Pipeline parameters that it gives, InputData among them.
        origin: Who asks, for the execution's description.
    """

    pipeline: str
    parameters: dict[str, str]
    origin: str


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point; `event` holds the trigger, and what it `started` once it has."""
    if "started" in event:
        return confirm(event["started"], boto3.client("sagemaker"))
    return decide(read_trigger(event["trigger"]), boto3.client("sagemaker"), boto3.client("s3"))


def read_trigger(event: Mapping[str, Any]) -> Trigger:
    """A schedule's request (StartPipelineExecution's own words), or S3's event of a manifest.

    Raises:
        SettingError: It is neither.
        DataError: The data set's name can't be recorded with a model.
    """
    if event.get("source") == "aws.s3":
        return _arrival(event["detail"])
    parameters = {item["Name"]: item["Value"] for item in event.get("PipelineParameters", [])}
    if not event.get("PipelineName") or not parameters.get("InputData"):
        raise SettingError("the trigger names no PipelineName or no InputData; create the schedule again")
    recordable(parameters["InputData"])
    return Trigger(event["PipelineName"], parameters, event.get("PipelineExecutionDescription", "schedule"))


def _arrival(detail: Mapping[str, Any]) -> Trigger:
    bucket, key = detail["bucket"]["name"], detail["object"]["key"]
    parts = key.split("/")
    if len(parts) < 4 or parts[0] != RAW or parts[-1] != MANIFEST:
        raise SettingError(f"s3://{bucket}/{key}: is no {RAW}/<pipeline>/<data set>/{MANIFEST}")
    uri = recordable(f"s3://{bucket}/{key.removesuffix(MANIFEST)}")
    return Trigger(parts[1], {"InputData": uri}, f"new data {uri}")


def decide(trigger: Trigger, sagemaker: SageMakerClient, s3: S3Client) -> dict[str, Any]:
    """Decide about a trigger: start, wait or skip.

    Returns:
        `action` (start, wait, skip), `reason`, `pipeline`, and with `start` the request.

    Raises:
        DataError: There is no data.
    """
    executions = _newest_first(sagemaker, trigger.pipeline)
    running = [e for e in executions if e["PipelineExecutionStatus"] in RUNNING]
    if running:
        return _decision("wait", trigger, f"{running[0]['PipelineExecutionArn']} runs")
    version = data_version(s3, trigger.parameters["InputData"])
    if version is None:
        raise DataError(f"{trigger.parameters['InputData']}: there is no file below it; the pipeline was not started")
    parameters = {**trigger.parameters, "DataVersion": version}
    if same := _same(sagemaker, trigger.pipeline, executions, parameters):
        return _decision("skip", trigger, f"nothing changed since {same}")
    newest = executions[0]["PipelineExecutionArn"] if executions else "none"
    request = {
        "PipelineName": trigger.pipeline,
        "PipelineExecutionDescription": trigger.origin,
        "PipelineParameters": [{"Name": name, "Value": value} for name, value in sorted(parameters.items())],
        "ClientRequestToken": hashlib.sha256(f"{trigger.pipeline}\n{newest}".encode()).hexdigest(),
    }
    return {**_decision("start", trigger, "the data, the parameters or the pipeline changed"), "request": request}


def confirm(started: Mapping[str, Any], sagemaker: SageMakerClient) -> dict[str, Any]:
    """Check that the started execution has the requested parameters.

    Args:
        started: `request`: StartPipelineExecution's; `execution`: the ARN that it answered with.
        sagemaker: SageMaker client.

    Returns:
        `action`: done, or wait where another guard's execution runs.
    """
    requested = {item["Name"]: str(item["Value"]) for item in started["request"]["PipelineParameters"]}
    return {"action": "done" if _parameters_of(sagemaker, started["execution"]) == requested else "wait"}


def _decision(action: str, trigger: Trigger, reason: str) -> dict[str, Any]:
    return {"action": action, "pipeline": trigger.pipeline, "reason": reason}


def _newest_first(sagemaker: SageMakerClient, pipeline: str) -> list[PipelineExecutionSummaryTypeDef]:
    pages = sagemaker.get_paginator("list_pipeline_executions").paginate(PipelineName=pipeline)
    executions = [summary for page in pages for summary in page["PipelineExecutionSummaries"]]
    return sorted(executions, key=lambda execution: execution["StartTime"], reverse=True)


def _same(
    sagemaker: SageMakerClient, pipeline: str, executions: Iterable[Mapping[str, Any]], parameters: Mapping[str, str]
) -> str | None:
    """The newest successful execution that had these parameters and the pipeline's present definition."""
    described = sagemaker.describe_pipeline(PipelineName=pipeline)
    defaults = _defaults(described["PipelineDefinition"])
    for execution in executions:
        if execution["StartTime"] < described["LastModifiedTime"]:
            return None
        arn = str(execution["PipelineExecutionArn"])
        if execution["PipelineExecutionStatus"] == "Succeeded" and defaults | _parameters_of(sagemaker, arn) == (
            defaults | dict(parameters)
        ):
            return arn
    return None


def _defaults(definition: str) -> dict[str, str]:
    parameters = json.loads(definition).get("Parameters", [])
    return {item["Name"]: str(item["DefaultValue"]) for item in parameters if "DefaultValue" in item}


def _parameters_of(sagemaker: SageMakerClient, arn: str) -> dict[str, str]:
    pages = sagemaker.get_paginator("list_pipeline_parameters_for_execution").paginate(PipelineExecutionArn=arn)
    return {item["Name"]: str(item["Value"]) for page in pages for item in page["PipelineParameters"]}
