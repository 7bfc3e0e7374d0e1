"""A pipeline whose only step is a condition that isn't met: an execution fails within seconds, without a job."""

from __future__ import annotations

import json
from typing import Any

from aws_smoke.check import UnexpectedError
from aws_smoke.lab import Lab

ENDED = frozenset({"Succeeded", "Failed", "Stopped"})
MESSAGE = "refused, as the smoke test expects; DataVersion"


def refusal_definition() -> str:
    """Return the definition's JSON text; `Proceed` is never `yes`."""
    message = {"Std:Join": {"On": " ", "Values": [MESSAGE, {"Get": "Parameters.DataVersion"}]}}
    condition = {"Type": "Equals", "LeftValue": {"Get": "Parameters.Proceed"}, "RightValue": "yes"}
    refuse = {"Name": "Refuse", "Type": "Fail", "Arguments": {"ErrorMessage": message}}
    arguments = {"Conditions": [condition], "IfSteps": [], "ElseSteps": [refuse]}
    parameters = [
        {"Name": "Proceed", "Type": "String", "DefaultValue": "no"},
        {"Name": "DataVersion", "Type": "String", "DefaultValue": "none"},
    ]
    steps = [{"Name": "Gate", "Type": "Condition", "Arguments": arguments}]
    return json.dumps({"Version": "2020-12-01", "Metadata": {}, "Parameters": parameters, "Steps": steps})


def follow(lab: Lab, arn: str, *, seconds: float) -> dict[str, Any]:
    """Wait for an execution's end; returns its description.

    Raises:
        TimeoutError: It didn't end in time.
    """

    def poll() -> dict[str, Any] | None:
        described = lab.send("sagemaker", "DescribePipelineExecution", {"PipelineExecutionArn": arn})
        return described if described["PipelineExecutionStatus"] in ENDED else None

    return dict(lab.until(poll, seconds=seconds, every=10, subject=f"execution {arn.rpartition('/')[2]} ended"))


def failed_step(lab: Lab, arn: str) -> dict[str, Any]:
    """Return the step of an execution that failed, as it is listed.

    Raises:
        UnexpectedError: None did.
    """
    listed = lab.send("sagemaker", "ListPipelineExecutionSteps", {"PipelineExecutionArn": arn})
    failed = [step for step in listed["PipelineExecutionSteps"] if step["StepStatus"] == "Failed"]
    if not failed:
        states = ", ".join(f"{step['StepName']} {step['StepStatus']}" for step in listed["PipelineExecutionSteps"])
        raise UnexpectedError(f"ListPipelineExecutionSteps: no step failed: {states or 'none'}")
    return dict(failed[0])
