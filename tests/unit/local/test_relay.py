"""The relay to a container without a network, its inner side in this process."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from medloop.local.hosting import socket_relay
from medloop.local.hosting.relay import Relay
from medloop.local.jobs.folders import Folder
from tests.unit.local.conftest import wait_until


class Echo:
    """A server of one port that sends back what it gets, until the client's last byte."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> str:
        """Its port."""
        return str(self.listener.getsockname()[1])

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._respond, args=(connection,), daemon=True).start()

    def _respond(self, connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(1 << 16):
                connection.sendall(data)


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    """A relay of a folder whose path is longer than a socket's may be; its container never starts."""
    folder = Folder(tmp_path / ("long" * 30))
    folder.ml.mkdir(parents=True)
    relay = Relay.start(folder)
    yield relay
    relay.close()


@pytest.fixture
def echo(relay: Relay) -> Iterator[Echo]:
    """A server behind the relay."""
    server = Echo()
    argv = [sys.executable, "-S", socket_relay.__file__, "relay.sock", server.port]
    process = subprocess.Popen(argv, cwd=relay.folder.ml)
    wait_until((relay.folder.ml / "relay.sock").exists)
    yield server
    process.kill()
    process.wait()
    server.listener.close()


def connect(relay: Relay) -> socket.socket:
    """A client's connection."""
    return socket.create_connection(("127.0.0.1", relay.port), timeout=10)


def read_all(connection: socket.socket) -> bytes:
    """What the server sends until it closes."""
    parts = []
    while data := connection.recv(1 << 20):
        parts.append(data)
    return b"".join(parts)


@pytest.mark.slow
class TestRelay:
    """A port that leads to a socket."""

    def test_many_clients_get_their_own_bytes_back(self, relay: Relay, echo: Echo) -> None:
        """At once, and more than a buffer has; a client may still wait after its last byte."""
        assert echo.port
        results: dict[int, bool] = {}

        def talk(number: int) -> None:
            body = bytes([number]) * 3_000_000
            with connect(relay) as connection:
                sender = threading.Thread(target=lambda: (connection.sendall(body), connection.shutdown(1)))
                sender.start()
                results[number] = read_all(connection) == body

        threads = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == dict.fromkeys(range(8), True)

    def test_a_connection_ends_at_once_without_a_server(self, relay: Relay) -> None:
        """A health check needn't wait for a container that starts."""
        with connect(relay) as connection:
            assert read_all(connection) == b""

    def test_it_closes_while_a_client_keeps_its_connection(self, relay: Relay, echo: Echo) -> None:
        """An endpoint's deletion doesn't wait for a client that says nothing; the port is free again."""
        assert echo.port
        with connect(relay) as connection:
            connection.sendall(b"hello")
            assert connection.recv(5) == b"hello"
            port = relay.port
            relay.close()
            assert connection.recv(1) == b""
        socket.create_server(("127.0.0.1", port)).close()
