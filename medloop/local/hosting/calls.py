"""Invocations: find the endpoint's container, keep it until it has responded, and respond as the service does.

A caller locks the container's file (shared) while it waits, and looks once more whether the record still names that
container; the supervisor ends a replaced container only when it gets the exclusive lock. So no update drops a request.
"""

from __future__ import annotations

import fcntl
import http.client
import random
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from medloop.local import processes
from medloop.local.errors import ServiceError
from medloop.local.hosting import endpoints
from medloop.local.state.backend import Backend
from medloop.local.state.home import ACCOUNT, REGION
from medloop.local.state.store import Document, Table

MAX_BODY = 6_291_456
"""Bytes of a real-time request or response: botocore's own model of InvokeEndpoint."""
MAX_SERVERLESS_BODY = 4 << 20
INVOCATION_SECONDS = 60.0
READY_SECONDS = 60.0
"""The time that an invocation waits for a container that is started again."""
LOG_GROUP = "/aws/sagemaker/Endpoints"
_POLL_SECONDS = 0.05
_CHUNK = 1 << 16
RawResponse = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""


@dataclass(frozen=True)
class InvocationResponse:
    """The response of a container."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    variant: str


class NotSentError(Exception):
    """The container is gone or replaced, and has seen nothing of the request."""


class TooLateError(Exception):
    """The container didn't respond in time."""


class BrokenError(Exception):
    """The container ended, or broke off, before it had responded."""


def runtime_error(message: str) -> ServiceError:
    """A request that sagemaker-runtime refuses."""
    return ServiceError("ValidationError", message)


def read_serving(backend: Backend, name: str) -> Document:
    """The record of an endpoint in service, its supervisor alive.

    Raises:
        ServiceError: ValidationError, as the service reports an endpoint that doesn't exist or isn't in service yet.
    """
    with backend.store.read() as read:
        record = read.get(Table.ENDPOINTS, name)
    if record is None or record["EndpointStatus"] not in endpoints.SERVING:
        raise runtime_error(f"Endpoint {name} of account {ACCOUNT} not found.")
    return endpoints.revive(backend, record)


def send(
    backend: Backend,
    name: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    variant: str | None = None,
    seconds: float = INVOCATION_SECONDS,
    max_response: int = MAX_BODY,
) -> InvocationResponse:
    """Send a request to an endpoint.

    Args:
        backend: The backend.
        name: The endpoint.
        body: The payload.
        headers: Content-Type, Accept and others.
        variant: The requested variant; None chooses by weight.
        seconds: How long the container may take.
        max_response: The size limit of the response in bytes.

    Raises:
        ServiceError: ValidationError, ThrottlingException, ServiceUnavailable, or ModelError for all that the
            container itself refuses or fails in.
    """
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        record = read_serving(backend, name)
        plan = _choose(record["_plan"], variant)
        chosen = plan["variant"]["VariantName"]
        address = record["_processes"].get(chosen)
        if address and processes.alive(address["process"], backend.home):
            with ExitStack() as locks, suppress(NotSentError):
                _hold(locks, backend, name, plan, address)
                return _checked(
                    name, chosen, _post_translated(name, address["port"], body, headers, seconds), max_response
                )
        time.sleep(_POLL_SECONDS)
    raise ServiceError("ServiceUnavailable", f"The container of endpoint {name} is not up; see its log", 503)


def _hold(locks: ExitStack, backend: Backend, name: str, plan: Document, address: Document) -> None:
    """Keep a container from being terminated until `locks` are released."""
    try:
        file: IO[Any] = Path(address["in_use"]).open("rb")  # noqa: SIM115 (closed by `held`)
    except FileNotFoundError:
        raise NotSentError from None  # already retired
    locks.enter_context(file)
    fcntl.flock(file, fcntl.LOCK_SH)
    if read_serving(backend, name)["_processes"].get(plan["variant"]["VariantName"]) != address:
        raise NotSentError
    _take_slot(locks, plan, Path(address["in_use"]).parent)


def _post_translated(name: str, port: int, body: bytes, headers: Mapping[str, str], seconds: float) -> RawResponse:
    try:
        return post(port, body, headers, seconds)
    except TooLateError:
        raise _model_error(name, 0, _TIMED_OUT) from None
    except BrokenError as error:
        raise _model_error(name, 500, f"the container broke off: {error}") from error


def _checked(name: str, variant: str, response: RawResponse, max_response: int) -> InvocationResponse:
    status, headers, content = response
    if len(content) > max_response:
        raise _model_error(name, 500, f"the response has {len(content)} bytes, more than {max_response}")
    if status >= 400:
        raise _model_error(name, status, content.decode("utf-8", errors="replace"))
    return InvocationResponse(status, headers, content, variant)


_TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container primary. "
    "Review the latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
)


def _model_error(name: str, status: int, text: str) -> ServiceError:
    side = "client" if 400 <= status < 500 else "server"
    page = f"https://{REGION}.console.aws.amazon.com/cloudwatch/home?region={REGION}#logEventViewer:group={LOG_GROUP}"
    message = (
        f'Received {side} error ({status}) from primary with message "{text}". '
        f"See {page}/{name} in account {ACCOUNT} for more information."
    )
    stream = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{LOG_GROUP}/{name}"
    fields = {"Message": message, "OriginalStatusCode": status, "OriginalMessage": text, "LogStreamArn": stream}
    return ServiceError("ModelError", message, 424, fields)


def _choose(plan: Document, variant: str | None) -> Document:
    variants: list[Document] = plan["variants"]
    if variant is None:
        return random.choices(variants, [item["variant"]["InitialVariantWeight"] or 1e-9 for item in variants])[0]  # noqa: S311 (no secret)
    for item in variants:
        if item["variant"]["VariantName"] == variant:
            return item
    raise runtime_error(f"Variant {variant} not found for the endpoint")


def _take_slot(locks: ExitStack, plan: Document, folder: Path) -> None:
    """Take one of a serverless variant's MaxConcurrency slots; the system frees it even when this process is killed."""
    serverless = plan["variant"].get("ServerlessConfig")
    if serverless is None:
        return
    for number in range(serverless["MaxConcurrency"]):
        file: IO[Any] = (folder / f"slot-{number}").open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        locks.enter_context(file)
        return
    raise ServiceError("ThrottlingException", "Rate exceeded: all MaxConcurrency invocations are running", 429)


def post(port: int, body: bytes, headers: Mapping[str, str], seconds: float) -> RawResponse:
    """Send one request to a container's /invocations; returns status, headers (in lower case) and body.

    Raises:
        NotSentError, TooLateError, BrokenError: There is no response.
    """
    deadline = time.monotonic() + seconds
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("POST", "/invocations", body, dict(headers))
        response = connection.getresponse()
        chunks: list[bytes] = []
        while not chunks or chunks[-1]:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TooLateError
            if connection.sock is not None:
                connection.sock.settimeout(left)
            chunks.append(response.read1(_CHUNK))
        if response.length:
            raise BrokenError(f"{response.length} bytes of the response are missing")
        return response.status, {key.lower(): value for key, value in response.getheaders()}, b"".join(chunks)
    except ConnectionRefusedError as error:
        raise NotSentError from error
    except TimeoutError as error:
        raise TooLateError from error
    except (OSError, http.client.HTTPException) as error:
        raise BrokenError(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
