"""Lambda steps: one run of a function; later steps may refer to the declared members of its response."""

from __future__ import annotations

from typing import Any

from medloop.local.engine.expressions import resolve
from medloop.local.engine.step_runs.base import StepResult, StepRun, StepRunner
from medloop.local.errors import ServiceError
from medloop.local.functions import functions
from medloop.local.functions.invocation import FunctionResponse, invoke_function
from medloop.local.state.store import Document

MAX_SECONDS = 600
"""A Lambda step's own limit: https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html"""
_KINDS: dict[str, tuple[type, ...]] = {"String": (str,), "Integer": (int,), "Boolean": (bool,), "Float": (int, float)}


class Lambda(StepRunner):
    """Calls a function. A stop waits for its end, as on AWS: it is short, and can't be undone half way."""

    def run(self, run: StepRun) -> StepResult:
        """See StepRunner."""
        arn = str(run.step.document.get("FunctionArn", ""))
        event = resolve(run.step.arguments, run.scope)
        metadata: Document = {"Lambda": {"Arn": arn, "OutputParameters": []}}
        try:
            with run.backend.store.read() as read:
                function = functions.read(read, arn)
        except ServiceError as error:
            return StepResult("Failed", {}, metadata, f"ClientError: Failed to invoke lambda function. {error.message}")
        run.show(Metadata=metadata)
        response = invoke_function(run.backend, {**function, "Timeout": min(function["Timeout"], MAX_SECONDS)}, event)
        if response.error is not None:
            message = f"{response.error.get('errorType')}: {response.error.get('errorMessage')}"
            return StepResult("Failed", {}, metadata, f"ClientError: Lambda function {arn} failed: {message}")
        return _result(run, response, metadata)


def _result(run: StepRun, response: FunctionResponse, metadata: Document) -> StepResult:
    values: dict[str, Any] = {}
    for output in run.step.document.get("OutputParameters") or []:
        name, kind = output["OutputName"], output["OutputType"]
        value = response.value.get(name) if isinstance(response.value, dict) else None
        if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "Boolean"):
            reason = f"ClientError: The output parameter {name} of type {kind} is not in the function's response"
            return StepResult("Failed", {}, metadata, reason)
        values[name] = value
    shown = [{"Name": name, "Value": str(value)} for name, value in values.items()]
    metadata = {"Lambda": {**metadata["Lambda"], "OutputParameters": shown}}
    return StepResult("Succeeded", {"OutputParameters": values}, metadata)
