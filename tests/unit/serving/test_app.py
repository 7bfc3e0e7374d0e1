"""The hosting contract, for any model."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from medloop.documents.model import ModelRecord
from medloop.serving.app import ServingState, make_app
from medloop.serving.service import InferenceRequest, InferenceResponse, RefusalError
from medloop.serving.settings import MIB, ServeSettings
from tests.unit.serving.worlds import SMALL, client, image_service, nifti, png, volume_service


@dataclass
class BlockingModel:
    """A model that answers with the number of bytes it got, as soon as it may."""

    go: threading.Event = field(default_factory=threading.Event)
    began: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None
    record: ModelRecord = field(default_factory=lambda: image_service().record)
    answered: int = 0

    def respond(self, request: InferenceRequest) -> InferenceResponse:
        """Wait, then answer or raise."""
        self.began.set()
        assert self.go.wait(30)
        if self.error:
            raise self.error
        self.answered += 1
        return InferenceResponse(str(len(request.body)).encode(), "text/plain")


def open_client(service: object, settings: ServeSettings = SMALL) -> httpx.AsyncClient:
    """A client that can send several requests at once."""
    app = make_app(ServingState(settings, service))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://endpoint")


def free(error: Exception | None = None) -> BlockingModel:
    """A model that answers, or fails, at once."""
    model = BlockingModel(error=error)
    model.go.set()
    return model


def test_ping_reports_that_the_model_is_loaded() -> None:
    """503 before, 200 after; a request before is refused with Retry-After."""
    endpoint = ServingState(SMALL)
    caller = TestClient(make_app(endpoint))
    assert caller.get("/ping").status_code == 503
    early = caller.post("/invocations", content=png())
    assert (early.status_code, early.headers["retry-after"]) == (503, "1")
    endpoint.service = image_service()
    assert caller.get("/ping").status_code == 200
    assert caller.post("/invocations", content=png()).status_code == 200


def test_execution_parameters_of_batch_transform() -> None:
    """One file a request, no larger than what is taken."""
    content = client(image_service()).get("/execution-parameters").json()
    assert content == {"MaxConcurrentTransforms": 2, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 1}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/invocations", 405), ("POST", "/ping", 405), ("GET", "/docs", 404)],
)
def test_nothing_else_is_there(method: str, path: str, status: int) -> None:
    """Refused in the same form as a bad request."""
    response = client(image_service()).request(method, path)
    assert response.status_code == status
    assert "POST /invocations" in response.json()["error"]


def test_busy_endpoint_answers_ping_and_refuses_what_it_cannot_hold() -> None:
    """One at work and `queue` waiting; the next gets 503 with Retry-After; when the queue is empty, it works again."""

    async def scene() -> None:
        model = BlockingModel()
        async with open_client(model) as caller:
            waiting = [asyncio.create_task(caller.post("/invocations", content=b"abc")) for _ in range(5)]
            await asyncio.to_thread(model.began.wait, 30)
            assert (await caller.get("/ping")).status_code == 200
            refused = await caller.post("/invocations", content=b"abc")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert "busy" in refused.json()["error"]
            model.go.set()
            assert [(await task).text for task in waiting] == ["3"] * 5
            assert (await caller.post("/invocations", content=b"abcd")).text == "4"

    asyncio.run(scene())


def test_bytes_of_the_queue_are_bounded() -> None:
    """Regardless of free positions; a response frees its bytes."""
    settings = SMALL.model_copy(update={"max_waiting_mib": 1, "queue": 100})
    body = b"x" * (MIB // 2)

    async def scene() -> None:
        model = BlockingModel()
        async with open_client(model, settings) as caller:
            waiting = [asyncio.create_task(caller.post("/invocations", content=body)) for _ in range(2)]
            await asyncio.to_thread(model.began.wait, 30)
            while (refused := await caller.post("/invocations", content=body)).status_code == 200:
                pass
            assert refused.status_code == 503
            model.go.set()
            assert [(await task).status_code for task in waiting] == [200, 200]
            assert (await caller.post("/invocations", content=body)).status_code == 200

    asyncio.run(scene())


def test_a_body_that_is_too_long() -> None:
    """413, by its Content-Length, or when it has come that far; exactly the limit is taken."""

    def chunks() -> Iterator[bytes]:
        for _ in range(5):
            yield b"x" * (MIB // 4)

    caller = client(free())
    assert caller.post("/invocations", content=b"x" * MIB).text == str(MIB)
    for content in (b"x" * (MIB + 1), chunks()):
        response = caller.post("/invocations", content=content)
        assert (response.status_code, "1048576 bytes" in response.json()["error"]) == (413, True)


def test_a_body_that_does_not_arrive() -> None:
    """408, and its bytes in the queue are freed."""
    settings = SMALL.model_copy(update={"body_seconds": 0.1, "max_waiting_mib": 1})

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * MIB
        await asyncio.sleep(30)

    async def scene() -> None:
        async with open_client(free(), settings) as caller:
            assert (await caller.post("/invocations", content=slow())).status_code == 408
            assert (await caller.post("/invocations", content=b"x" * MIB)).status_code == 200

    asyncio.run(asyncio.wait_for(scene(), 25))


@dataclass
class Endless(BlockingModel):
    """A model that works until it is stopped."""

    def respond(self, request: InferenceRequest) -> InferenceResponse:
        """Look every now and then."""
        self.began.set()
        for _ in range(3000):
            request.check_stop()
            time.sleep(0.01)
        raise AssertionError("never stopped")


def test_a_prediction_that_takes_too_long() -> None:
    """Is ended, and the worker is free again."""
    settings = SMALL.model_copy(update={"predict_seconds": 0.2})
    endpoint = ServingState(settings, Endless())
    caller = TestClient(make_app(endpoint))
    response = caller.post("/invocations", content=b"abc")
    assert (response.status_code, "takes too long" in response.json()["error"]) == (413, True)


def test_a_client_that_goes_away() -> None:
    """Its prediction is ended: hosting gives up after a minute, and the next client shall not wait for nothing."""
    model = Endless()
    inbox = iter([{"type": "http.request", "body": b"abc"}])
    sent: list[Any] = []

    async def receive() -> Any:
        message = next(inbox, None)
        if message is None:
            while not model.began.is_set():
                await asyncio.sleep(0.01)
        return message or {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": [], "query_string": b""}
    asyncio.run(asyncio.wait_for(make_app(ServingState(SMALL, model))(scope, receive, send), 20))
    assert sent[0]["status"] == 413


def test_a_segmentation_is_ended_between_two_windows() -> None:
    """The network isn't run for a stopped request."""
    service = volume_service()
    request = InferenceRequest(nifti())
    request.stop.set()
    with pytest.raises(RefusalError, match="takes too long"):
        service.respond(request)
    assert not hasattr(service.predictor.model, "seen")


def test_a_compressed_transfer_is_refused() -> None:
    """Nothing is decompressed that isn't counted."""
    response = client(free()).post("/invocations", content=b"abc", headers={"content-encoding": "gzip"})
    assert (response.status_code, "Content-Encoding" in response.json()["error"]) == (415, True)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")]
)
def test_too_large_for_the_memory(error: Exception) -> None:
    """The file is too large: no internal error, and the endpoint keeps running."""
    response = client(free(error)).post("/invocations", content=b"abc")
    assert (response.status_code, "memory" in response.json()["error"]) == (413, True)


def test_a_bug_is_logged_without_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    """A message may quote the file; where it happened is enough to find it."""
    response = client(free(KeyError("DOE^JANE"))).post("/invocations", content=b"abc")
    assert response.status_code == 500
    logged = capsys.readouterr()
    assert "KeyError" in logged.err
    assert "test_app.py" in logged.err
    assert "JANE" not in logged.out + logged.err + response.text
