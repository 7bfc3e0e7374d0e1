"""Lambda functions as records, and one run of one: a process that has the bundle's code and a local boto3 session."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import medloop
from medloop.local.errors import ServiceError
from medloop.local.state.backend import Backend
from medloop.local.state.home import ACCOUNT, REGION, new_id, now
from medloop.local.state.store import Document, Table, Transaction

LOG_GROUP = "/aws/lambda"
MAX_TIMEOUT = 900
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ARN = re.compile(rf"arn:aws:lambda:{REGION}:{ACCOUNT}:function:([A-Za-z0-9_-]+)")
_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class Answer:
    """What a function returned, or the error it raised."""

    value: Any = None
    error: Document | None = None
    """Lambda's own shape: errorType and errorMessage."""


def arn(name: str) -> str:
    """The ARN of the local account's function of that name."""
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


def name_of(name_or_arn: str) -> str:
    """A function's name out of its name or ARN.

    Raises:
        ServiceError: It is neither.
    """
    match = _ARN.fullmatch(name_or_arn)
    name = match[1] if match else name_or_arn
    if not _NAME.fullmatch(name):
        raise ServiceError("ValidationException", f"'{name_or_arn}' at 'functionName' is no function of this account")
    return name


def create(write: Transaction, request: Document, code: bytes) -> Document:
    """Record a new function whose code (a bundle, tar.gz) lies at Code.S3Bucket and Code.S3Key.

    Raises:
        ServiceError: ResourceConflictException when the name is taken.
    """
    name = name_of(request["FunctionName"])
    if write.get(Table.FUNCTIONS, name):
        raise ServiceError("ResourceConflictException", f"Function already exist: {name}", 409)
    kept = ("Description", "Handler", "Role", "Runtime", "MemorySize", "Environment")
    document = {key: request[key] for key in kept if key in request}
    document |= {"FunctionName": name, "FunctionArn": arn(name), "Timeout": request.get("Timeout", 3)}
    document |= {"Version": "$LATEST", "PackageType": "Zip", "State": "Active", **_code(request["Code"], code)}
    write.put(Table.FUNCTIONS, name, document)
    return document


def read(transaction: Transaction, name_or_arn: str) -> Document:
    """A function's record.

    Raises:
        ServiceError: ResourceNotFoundException: there is none.
    """
    name = name_of(name_or_arn)
    document = transaction.get(Table.FUNCTIONS, name)
    if document is None:
        raise ServiceError("ResourceNotFoundException", f"Function not found: {arn(name)}", 404)
    return document


def update_code(write: Transaction, request: Document, code: bytes) -> Document:
    """Record another code of a function.

    Raises:
        ServiceError: ResourceNotFoundException: there is no such function.
    """
    document = read(write, request["FunctionName"]) | _code(request, code)
    write.put(Table.FUNCTIONS, document["FunctionName"], document)
    return document


def _code(place: Document, code: bytes) -> Document:
    digest = base64.b64encode(hashlib.sha256(code).digest()).decode()
    uri = f"s3://{place['S3Bucket']}/{place['S3Key']}"
    return {"CodeSha256": digest, "CodeSize": len(code), "LastModified": now(), "_code": uri}


def run(backend: Backend, function: Document, event: Any) -> Answer:
    """Run a function to its end, or to its time-out; what it prints goes to its log."""
    name, request_id = function["FunctionName"], new_id()
    folder = backend.home.folder("functions", request_id)
    try:
        with tarfile.open(fileobj=io.BytesIO(backend.objects.read(function["_code"])), mode="r:gz") as archive:
            archive.extractall(folder / "code", filter="data")
        (folder / "event.json").write_text(json.dumps(event), encoding="utf-8")
        log = backend.home.folder("logs", LOG_GROUP.strip("/"), name, time.strftime("%Y-%m-%d")) / request_id
        ended = _run_process(backend, function, folder, log)
        if ended is not None:
            return Answer(error=ended)
        document = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
        return Answer(document.get("value"), document.get("error"))
    except (ServiceError, tarfile.TarError, EOFError) as error:
        return Answer(error={"errorType": "Runtime.NoCode", "errorMessage": f"{function['_code']}: {error}"})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_process(backend: Backend, function: Document, folder: Path, log: Path) -> Document | None:
    """Run the function's process; the error if it gave no answer."""
    words = [str(backend.home.root), str(folder), function["Handler"], function["FunctionArn"]]
    process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
        # -P: the working folder is the bundle, whose `medloop` lacks the backend.
        [sys.executable, "-P", "-m", "medloop.local.functions.function_runner", *words],
        cwd=folder / "code",
        env=_environment(function),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    timed_out = False
    try:
        said, _ = process.communicate(timeout=function["Timeout"])
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        timed_out = True
    log.write_text("".join(f"{int(time.time() * 1000)} {line}\n" for line in said.splitlines()), encoding="utf-8")
    if timed_out:
        return {"errorType": "Sandbox.Timedout", "errorMessage": f"Task timed out after {function['Timeout']} seconds"}
    if process.returncode != 0:
        reason = f"Runtime exited with error: exit status {process.returncode}"
        return {"errorType": "Runtime.ExitError", "errorMessage": reason}
    return None


def _environment(function: Document) -> dict[str, str]:
    """Lambda's own variables and the function's, over a small base; above all no credentials of the developer's."""
    checkout = str(Path(medloop.__file__).parents[1])
    given = (function.get("Environment") or {}).get("Variables") or {}
    own = {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, "AWS_LAMBDA_FUNCTION_NAME": function["FunctionName"]}
    return {**{name: os.environ[name] for name in _KEPT if name in os.environ}, **given, **own, "PYTHONPATH": checkout}
