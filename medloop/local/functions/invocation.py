"""One run of a Lambda function: a process that has the bundle's code and a local boto3 session."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medloop.checkout import REPOSITORY
from medloop.documents.archive import BUNDLE_LIMITS, ArchiveError, unpack
from medloop.documents.json_text import read_json
from medloop.local.errors import ServiceError
from medloop.local.processes import inherited_environment, start
from medloop.local.state.backend import Backend
from medloop.local.state.home import REGION, new_id
from medloop.local.state.log_streams import LogStream
from medloop.local.state.store import Document

LOG_GROUP = "/aws/lambda"


@dataclass(frozen=True)
class FunctionResponse:
    """The value that a function returned, or the error that it raised."""

    value: Any = None
    error: Document | None = None
    """Lambda's own shape: errorType and errorMessage."""


def invoke_function(backend: Backend, function: Document, event: Any) -> FunctionResponse:
    """Run a function to its end, or to its time-out; what it prints goes to its log."""
    name, request_id = function["FunctionName"], new_id()
    folder = backend.home.folder("functions", request_id)
    try:
        unpack(backend.objects.read(function["_code"]), folder / "code", BUNDLE_LIMITS)
        (folder / "event.json").write_text(json.dumps(event), encoding="utf-8")
        log = LogStream.in_group(backend.home, LOG_GROUP, name, time.strftime("%Y-%m-%d"), request_id)
        error = _run_process(backend, function, folder, log)
        if error is not None:
            return FunctionResponse(error=error)
        document = read_json(folder / "response.json")
        return FunctionResponse(document.get("value"), document.get("error"))
    except (ServiceError, ArchiveError) as error:
        return FunctionResponse(error={"errorType": "Runtime.NoCode", "errorMessage": f"{function['_code']}: {error}"})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_process(backend: Backend, function: Document, folder: Path, log: LogStream) -> Document | None:
    """Run the function's process; the error when it wrote no response."""
    arguments = [str(backend.home.root), str(folder), function["Handler"], function["FunctionArn"]]
    # -P: the working folder is the bundle, whose `medloop` has no local backend.
    argv = [sys.executable, "-P", "-m", "medloop.local.function_runner", *arguments]
    process = start(argv, cwd=folder / "code", env=_environment(function))
    timed_out = False
    try:
        output, _ = process.communicate(timeout=function["Timeout"])
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        timed_out = True
    log.write(output)
    if timed_out:
        return {"errorType": "Sandbox.Timedout", "errorMessage": f"Task timed out after {function['Timeout']} seconds"}
    if process.returncode != 0:
        reason = f"Runtime exited with error: exit status {process.returncode}"
        return {"errorType": "Runtime.ExitError", "errorMessage": reason}
    return None


def _environment(function: Document) -> dict[str, str]:
    """Lambda's own variables and the function's, in addition to those that every program gets."""
    variables = (function.get("Environment") or {}).get("Variables") or {}
    runtime = {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, "AWS_LAMBDA_FUNCTION_NAME": function["FunctionName"]}
    return {**inherited_environment(), **variables, **runtime, "PYTHONPATH": str(REPOSITORY)}
