"""Lambda's operations: functions whose code is a bundle in S3, run when they are invoked."""

from __future__ import annotations

import io
import json
from typing import Any

from botocore.response import StreamingBody

from medloop.local.errors import ServiceError
from medloop.local.functions import functions
from medloop.local.functions.invocation import invoke_function
from medloop.local.state.backend import Backend
from medloop.local.state.store import Document, Table, pick

_CONFIGURATION = (
    *("FunctionName", "FunctionArn", "Runtime", "Role", "Handler", "CodeSize", "Description", "Timeout", "MemorySize"),
    *("CodeSha256", "Version", "PackageType", "State", "Environment"),
)


def create(backend: Backend, params: Document) -> Document:
    """CreateFunction."""
    code = _code(backend, params["Code"])
    with backend.store.write() as write:
        return _shown(functions.create(write, params, code))


def get(backend: Backend, params: Document) -> Document:
    """GetFunction."""
    function = _read(backend, params)
    location = {"RepositoryType": "S3", "Location": function["_code"]}
    return {"Configuration": _shown(function), "Code": location}


def list_(backend: Backend, params: Document) -> Document:
    """ListFunctions, all in one response."""
    with backend.store.read() as read:
        known = read.select(Table.FUNCTIONS)
    return {"Functions": [_shown(function) for function in sorted(known, key=lambda item: str(item["FunctionName"]))]}


def update_code(backend: Backend, params: Document) -> Document:
    """UpdateFunctionCode."""
    code = _code(backend, params)
    with backend.store.write() as write:
        return _shown(functions.update_code(write, params, code))


def delete(backend: Backend, params: Document) -> Document:
    """DeleteFunction."""
    with backend.store.write() as write:
        write.delete(Table.FUNCTIONS, functions.read(write, params["FunctionName"])["FunctionName"])
    return {}


def invoke(backend: Backend, params: Document) -> Document:
    """Invoke, waiting for the response."""
    if params.get("InvocationType", "RequestResponse") != "RequestResponse":
        raise ServiceError("NotImplemented", "The local backend invokes functions with RequestResponse only", 501)
    function = _read(backend, params)
    try:
        event = json.loads(_bytes(params.get("Payload") or b"null"))
    except ValueError as error:
        raise ServiceError(
            "InvalidRequestContentException", f"Could not parse request body into json: {error}"
        ) from error
    response = invoke_function(backend, function, event)
    body = json.dumps(response.value if response.error is None else response.error).encode()
    failed = {} if response.error is None else {"FunctionError": "Unhandled"}
    payload = StreamingBody(io.BytesIO(body), len(body))
    return {"StatusCode": 200, "ExecutedVersion": "$LATEST", "Payload": payload, **failed}


def _bytes(payload: Any) -> bytes:
    content = payload.read() if hasattr(payload, "read") else payload
    return content.encode() if isinstance(content, str) else bytes(content)


def _read(backend: Backend, params: Document) -> Document:
    with backend.store.read() as read:
        return functions.read(read, params["FunctionName"])


def _code(backend: Backend, location: Document) -> bytes:
    if not location.get("S3Bucket") or not location.get("S3Key"):
        raise ServiceError(
            "InvalidParameterValueException", "The local backend takes code from S3Bucket and S3Key only"
        )
    try:
        return backend.objects.read(f"s3://{location['S3Bucket']}/{location['S3Key']}")
    except ServiceError as error:
        raise ServiceError(
            "InvalidParameterValueException", f"Error occurred while GetObject. {error.message}"
        ) from error


def _shown(function: Document) -> Document:
    return pick(function, *_CONFIGURATION)
