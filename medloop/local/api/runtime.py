"""sagemaker-runtime: invocations of endpoints, at once or by the queue."""

from __future__ import annotations

import io
import uuid
from typing import Any, cast

from botocore.response import StreamingBody

from medloop.local.errors import ServiceError
from medloop.local.hosting import calls
from medloop.local.hosting.calls import MAX_BODY, MAX_SERVERLESS_BODY, runtime_error
from medloop.local.hosting.queue import DEFAULT_SECONDS, DEFAULT_TTL, Queue
from medloop.local.hosting.queue import MAX_BODY as MAX_ASYNC_BODY
from medloop.local.process_identity import make_deadline
from medloop.local.state.backend import Backend
from medloop.local.state.objects import split_uri
from medloop.local.state.store import Document

_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
_HEADERS = {"ContentType": "Content-Type", "Accept": "Accept", "CustomAttributes": _ATTRIBUTES}


def invoke(backend: Backend, params: Document) -> Document:
    """InvokeEndpoint: 6,291,456 bytes (serverless 4 MB) and 60 s at most."""
    name = params["EndpointName"]
    plan = calls.read_serving(backend, name)["_plan"]
    if plan["async"]:
        raise runtime_error(f"Endpoint {name} is asynchronous; use InvokeEndpointAsync")
    serverless = any("ServerlessConfig" in item["variant"] for item in plan["variants"])
    body = _body(params, MAX_SERVERLESS_BODY if serverless else MAX_BODY)
    invocation = calls.send(backend, name, body, _headers(params), variant=params.get("TargetVariant"))
    response: Document = {
        "Body": StreamingBody(cast(Any, io.BytesIO(invocation.body)), len(invocation.body)),
        "ContentType": invocation.headers.get("content-type", "application/octet-stream"),
        "InvokedProductionVariant": invocation.variant,
    }
    attributes = invocation.headers.get(_ATTRIBUTES.lower())
    return {**response, **({"CustomAttributes": attributes} if attributes else {})}


def invoke_async(backend: Backend, params: Document) -> Document:
    """InvokeEndpointAsync by InputLocation, 1 GB at most; the response appears at OutputLocation."""
    name = params["EndpointName"]
    config = calls.read_serving(backend, name)["_plan"]["async"]
    if not config:
        raise runtime_error(f"Endpoint {name} has no AsyncInferenceConfig; use InvokeEndpoint")
    if "S3OutputPath" not in config["OutputConfig"]:
        raise runtime_error(f"The AsyncInferenceConfig of endpoint {name} has no S3OutputPath")
    if "InputLocation" not in params:
        raise runtime_error("The local backend reads a request from InputLocation")
    _check_input(backend, params["InputLocation"])
    identifier = params.get("InferenceId") or str(uuid.uuid4())
    output = f"{config['OutputConfig']['S3OutputPath'].rstrip('/')}/{params.get('Filename') or f'{identifier}.out'}"
    failures = config["OutputConfig"].get("S3FailurePath", "").rstrip("/")
    failure = f"{failures}/{identifier}-error.out" if failures else None
    Queue(backend, name).put(
        {
            "input": params["InputLocation"],
            "output": output,
            "failure": failure,
            "headers": _headers(params),
            "seconds": params.get("InvocationTimeoutSeconds", DEFAULT_SECONDS),
            **make_deadline(params.get("RequestTTLSeconds", DEFAULT_TTL)),
        }
    )
    response = {"InferenceId": identifier, "OutputLocation": output}
    return {**response, **({"FailureLocation": failure} if failure else {})}


def _body(params: Document, most: int) -> bytes:
    content = params["Body"]
    body = (
        content.encode()
        if isinstance(content, str)
        else content
        if isinstance(content, bytes)
        else content.read(most + 1)
    )
    if len(body) > most:
        rule = f"Member must have length less than or equal to {most}"
        raise runtime_error(f"1 validation error detected: Value at 'body' failed to satisfy constraint: {rule}")
    return bytes(body)


def _check_input(backend: Backend, uri: str) -> None:
    try:
        size = backend.objects.head(*split_uri(uri)).size
    except ServiceError as error:
        raise runtime_error(f"InputLocation {uri}: {error.message}") from error
    if size > MAX_ASYNC_BODY:
        raise runtime_error(f"InputLocation {uri} has {size} bytes; an asynchronous request has {MAX_ASYNC_BODY}")


def _headers(params: Document) -> dict[str, str]:
    return {header: params[name] for name, header in _HEADERS.items() if name in params}
