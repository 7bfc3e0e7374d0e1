"""The web application of SageMaker's hosting contract: `/ping`, `/invocations`, `/execution-parameters`.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html and
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-batch-code.html
"""

from __future__ import annotations

import asyncio
import io
import sys
import time
import traceback
from dataclasses import dataclass, field

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from medloop.errors import DataError
from medloop.imaging.files import TooLargeError
from medloop.serving.request_queue import RequestQueue
from medloop.serving.service import InferenceRequest, InferenceResponse, RefusalError, Service
from medloop.serving.settings import MIB, ServeSettings

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
"""The only custom header that hosting forwards, in both directions."""
MAX_DRAINED = 64 * MIB
"""Bytes of a refused body that are read and dropped: a client that is still sending can then read the refusal."""
POLL_SECONDS = 1.0
"""Between two checks that a client is still connected."""


@dataclass
class ServingState:
    """The state of the application: its settings, and the model when it is loaded."""

    settings: ServeSettings
    service: Service | None = None
    queue: RequestQueue = field(init=False)

    def __post_init__(self) -> None:
        self.queue = RequestQueue(self.settings)


def make_app(endpoint: ServingState) -> FastAPI:
    """Make the application of an endpoint; `endpoint.service` may be set later."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/ping")
    async def ping() -> Response:
        """Respond immediately, even if all workers are busy; hosting waits two seconds."""
        return Response(status_code=200 if endpoint.service else 503)

    @app.get("/execution-parameters")
    async def execution_parameters() -> Response:
        """Tell batch transform to send one file a request."""
        settings = endpoint.settings
        return JSONResponse(
            {
                "MaxConcurrentTransforms": max(1, min(settings.queue, 2 * settings.workers)),
                "BatchStrategy": "SINGLE_RECORD",
                "MaxPayloadInMB": min(100, settings.max_body_mib),  # the service's own maximum
            }
        )

    @app.post("/invocations")
    async def invocations(request: Request) -> Response:
        """Respond to one file with one prediction."""
        start = time.monotonic()
        response = await _invoke(endpoint, request)
        print(f"invocation: status {response.status_code}, {time.monotonic() - start:.3f} s", flush=True)
        return response

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> Response:
        """Refuse other paths and methods."""
        return _refuse(error.status_code, "there are GET /ping and POST /invocations")

    return app


async def _invoke(endpoint: ServingState, request: Request) -> Response:
    try:
        with endpoint.queue.position():
            return await _predict(endpoint, request)
    except RefusalError as error:
        await _drain(request)
        return _refuse(error.status, str(error))
    except TooLargeError as error:
        return _refuse(413, str(error))
    except DataError as error:
        return _refuse(400, str(error))
    except ClientDisconnect:
        return _refuse(400, "the client disconnected")
    except Exception as error:
        if _is_out_of_memory(error):
            return _refuse(413, "the file takes more memory than this endpoint has; make it smaller")
        # A bug. Its message may quote the file and is not logged.
        frames = "".join(traceback.format_tb(error.__traceback__))
        print(f"error: {type(error).__name__} in\n{frames}", file=sys.stderr, flush=True)
        return _refuse(500, "an internal error of the endpoint; its log names the location")


def _is_out_of_memory(error: Exception) -> bool:
    """True if memory ran out: NumPy raises MemoryError; torch raises RuntimeError, on the CPU without a subclass."""
    phrases = ("out of memory", "allocate memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in phrases)
    )


async def _predict(endpoint: ServingState, request: Request) -> Response:
    service = endpoint.service
    if service is None:
        raise RefusalError(503, "the model is still loading; send the request again in a second")
    body = await _read_body(endpoint, request)
    try:
        kind, accept, attributes = (request.headers.get(name, "") for name in ("content-type", "accept", ATTRIBUTES))
        inference = InferenceRequest(body, kind, accept, attributes)
        async with endpoint.queue.worker:
            if await request.is_disconnected():
                raise ClientDisconnect
            response = await _run(endpoint, request, inference, service)
    finally:
        endpoint.queue.add_bytes(-len(body))
    headers = {ATTRIBUTES: response.attributes} if response.attributes else None
    return Response(response.body, media_type=response.content_type, headers=headers)


async def _run(
    endpoint: ServingState, request: Request, inference: InferenceRequest, service: Service
) -> InferenceResponse:
    """Run the network in a worker; stop it when the client disconnects (hosting has a timeout) or time is up."""
    end = time.monotonic() + endpoint.settings.predict_seconds
    work = asyncio.get_running_loop().run_in_executor(endpoint.queue.pool, service.respond, inference)
    while not (await asyncio.wait({work}, timeout=min(POLL_SECONDS, endpoint.settings.predict_seconds)))[0]:
        if time.monotonic() > end or await request.is_disconnected():
            inference.stop.set()
    return work.result()


async def _read_body(endpoint: ServingState, request: Request) -> bytes:
    """Read the whole body, and count it in the queue.

    Raises:
        RefusalError: It is too large (413), too slow (408), encoded (415), or the queue contains too many bytes (503).
    """
    limit = endpoint.settings.max_body_mib * MIB
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise RefusalError(415, "Content-Encoding is not supported; send the bytes of the file (.nii.gz as is)")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise RefusalError(413, _too_long(limit))
    buffer = io.BytesIO()
    try:
        async with asyncio.timeout(endpoint.settings.body_seconds):
            async for chunk in request.stream():
                if buffer.tell() + len(chunk) > limit:
                    raise RefusalError(413, _too_long(limit))
                endpoint.queue.add_bytes(len(chunk))
                buffer.write(chunk)
    except BaseException as error:
        endpoint.queue.add_bytes(-buffer.tell())
        if isinstance(error, TimeoutError):
            raise RefusalError(408, "the body took too long to arrive; send it again") from None
        raise
    return buffer.getvalue()


def _too_long(limit: int) -> str:
    return f"the body has more than {limit} bytes; make it smaller"


async def _drain(request: Request) -> None:
    """Read and drop the rest of a body."""
    dropped = 0
    try:
        async with asyncio.timeout(5):
            async for chunk in request.stream():
                dropped += len(chunk)
                if dropped > MAX_DRAINED:
                    return
    except (TimeoutError, ClientDisconnect, RuntimeError):  # RuntimeError: it has been read to its end
        return


def _refuse(status: int, message: str) -> Response:
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"error": message}, status_code=status, headers=headers)
