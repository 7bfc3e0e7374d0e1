"""The serving process: it listens immediately, loads the model in a thread, and shuts down gracefully."""

from __future__ import annotations

import signal
import socket
import threading
import time

import uvicorn

from medloop.errors import TargetError
from medloop.serving.app import ServingState, make_app
from medloop.serving.settings import ServeSettings

GRACE = 25
"""Seconds for requests in work after SIGTERM; hosting sends SIGKILL five seconds later."""


def serve(settings: ServeSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        TargetError: The port is not available.
        DataError: The model can't be loaded.
    """
    listener = _listen(settings)
    endpoint = ServingState(settings)
    config = uvicorn.Config(
        make_app(endpoint), log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=GRACE, timeout_keep_alive=75, lifespan="off",
    )  # fmt: skip
    server = uvicorn.Server(config)
    _shut_down_on_signals(server)
    failures: list[Exception] = []

    def prepare() -> None:
        start = time.monotonic()
        try:
            from medloop.serving.loading import load_service  # torch takes seconds; /ping responds in the meantime

            endpoint.service = load_service(settings)
            record = endpoint.service.record
            title = f"{record.task} with {record.network.name}, {len(record.classes)} classes"
            print(f"ready in {time.monotonic() - start:.1f} s: {title}", flush=True)
        except Exception as error:
            failures.append(error)
            server.should_exit = True

    loading = threading.Thread(target=prepare, name="load")
    loading.start()
    host, port = listener.getsockname()[:2]
    print(f"listening on {host}:{port}", flush=True)
    server.run(sockets=[listener])
    loading.join()
    if failures:
        raise failures[0]


def _shut_down_on_signals(server: uvicorn.Server) -> None:
    """Handle signals that come before uvicorn handles them, or that it raises again after its graceful shutdown."""

    def shut_down(*_: object) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, shut_down)


def _listen(settings: ServeSettings) -> socket.socket:
    try:
        return socket.create_server((settings.host, settings.port), backlog=2048)
    except OSError as error:
        reason = str(error.strerror or error).partition(" (")[0]  # Python appends the address
        raise TargetError(f"port {settings.port} of {settings.host}: {reason}; set another --port") from None
