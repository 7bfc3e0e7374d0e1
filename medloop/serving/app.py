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
from medloop.serving.queueing import Line
from medloop.serving.refusals import RefusalError
from medloop.serving.service import Answer, Inquiry, Service
from medloop.serving.settings import MIB, ServeSettings

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
"""The one header of its own that hosting passes on, in both directions."""
DRAINED = 64 * MIB
"""Of a refused body, this much is read and dropped, so that a client that is still sending gets to read the refusal."""

WATCH = 1.0
"""Seconds between two looks whether a client is still there."""


@dataclass
class Endpoint:
    """What the application knows: its settings, and the model as soon as it is loaded."""

    settings: ServeSettings
    service: Service | None = None
    line: Line = field(init=False)

    def __post_init__(self) -> None:
        self.line = Line(self.settings)


def make_app(endpoint: Endpoint) -> FastAPI:
    """The application around an endpoint, whose `service` may come later."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/ping")
    async def ping() -> Response:
        """Answers at once, however busy the workers are; hosting waits two seconds for it."""
        return Response(status_code=200 if endpoint.service else 503)

    @app.get("/execution-parameters")
    async def execution_parameters() -> Response:
        """How batch transform should send: one file a request."""
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
        """One file in, one prediction out."""
        start = time.monotonic()
        response = await _invoke(endpoint, request)
        print(f"invocation: status {response.status_code}, {time.monotonic() - start:.3f} s", flush=True)
        return response

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> Response:
        """Paths and methods that aren't there."""
        return _refuse(error.status_code, "there are GET /ping and POST /invocations")

    return app


async def _invoke(endpoint: Endpoint, request: Request) -> Response:
    try:
        with endpoint.line.place():
            return await _predict(endpoint, request)
    except RefusalError as error:
        await _drain(request)
        return _refuse(error.status, str(error))
    except TooLargeError as error:
        return _refuse(413, str(error))
    except DataError as error:
        return _refuse(400, str(error))
    except ClientDisconnect:
        return _refuse(400, "the client went away")
    except Exception as error:
        if _is_out_of_memory(error):
            return _refuse(413, "the file takes more memory than this endpoint has; make it smaller")
        # A bug. Its message is left out of the log: it may quote the file.
        frames = "".join(traceback.format_tb(error.__traceback__))
        print(f"error: {type(error).__name__} in\n{frames}", file=sys.stderr, flush=True)
        return _refuse(500, "a fault of the endpoint's own; its log says where")


def _is_out_of_memory(error: Exception) -> bool:
    """NumPy raises MemoryError; torch says it in a RuntimeError, on the CPU without a class of its own."""
    words = ("out of memory", "allocate memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))


async def _predict(endpoint: Endpoint, request: Request) -> Response:
    service = endpoint.service
    if service is None:
        raise RefusalError(503, "the model is still loading; send the request again in a second")
    body = await _read_body(endpoint, request)
    try:
        kind, accept, attributes = (request.headers.get(name, "") for name in ("content-type", "accept", ATTRIBUTES))
        inquiry = Inquiry(body, kind, accept, attributes)
        async with endpoint.line.turn():
            if await request.is_disconnected():
                raise ClientDisconnect
            answer = await _watch(endpoint, request, inquiry, service)
    finally:
        endpoint.line.hold(-len(body))
    return _respond(answer)


async def _watch(endpoint: Endpoint, request: Request, inquiry: Inquiry, service: Service) -> Answer:
    """Have a worker answer; tell it to stop when the client is gone (hosting gives up after a time), or time is up."""
    end = time.monotonic() + endpoint.settings.predict_seconds
    work = asyncio.ensure_future(endpoint.line.work(lambda: service.answer(inquiry)))
    while not (await asyncio.wait({work}, timeout=min(WATCH, endpoint.settings.predict_seconds)))[0]:
        if time.monotonic() > end or await request.is_disconnected():
            inquiry.stop.set()
    return work.result()


async def _read_body(endpoint: Endpoint, request: Request) -> bytes:
    """The whole body, counted into the line.

    Raises:
        RefusalError: It is too large (413), too slow (408), encoded (415), or the line is full of bytes (503).
    """
    limit = endpoint.settings.max_body_mib * MIB
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise RefusalError(415, "Content-Encoding is not taken; send the file's own bytes (.nii.gz as it is)")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise RefusalError(413, _too_long(limit))
    buffer = io.BytesIO()
    try:
        async with asyncio.timeout(endpoint.settings.body_seconds):
            async for chunk in request.stream():
                if buffer.tell() + len(chunk) > limit:
                    raise RefusalError(413, _too_long(limit))
                endpoint.line.hold(len(chunk))
                buffer.write(chunk)
    except BaseException as error:
        endpoint.line.hold(-buffer.tell())
        if isinstance(error, TimeoutError):
            raise RefusalError(408, "the body took too long to arrive; send it again") from None
        raise
    return buffer.getvalue()


def _too_long(limit: int) -> str:
    return f"the body has more than {limit} bytes; make it smaller"


async def _drain(request: Request) -> None:
    """Read and drop what the client is still sending."""
    dropped = 0
    try:
        async with asyncio.timeout(5):
            async for chunk in request.stream():
                dropped += len(chunk)
                if dropped > DRAINED:
                    return
    except (TimeoutError, ClientDisconnect, RuntimeError):  # RuntimeError: it has been read to its end
        return


def _respond(answer: Answer) -> Response:
    headers = {ATTRIBUTES: answer.attributes} if answer.attributes else None
    return Response(answer.body, media_type=answer.content_type, headers=headers)


def _refuse(status: int, message: str) -> Response:
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"error": message}, status_code=status, headers=headers)
