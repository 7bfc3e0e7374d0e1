"""A port of this host that leads to a serving container without a network, by a socket in a folder that both have.

A published port needs a network, which leads out as well; an engine's internal network reaches the host's own
addresses, and not each engine publishes a port on it. So the container has none. The engine starts a second program in
it (`exec`) that listens on the socket and connects to the server; a thread here listens on the port.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from medloop.container.paths import PREFIX
from medloop.local import processes
from medloop.local.hosting import socket_relay
from medloop.local.jobs.container_record import read_record
from medloop.local.jobs.folders import SERVING_PORT, Folder

_SOCKET = "relay.sock"
_PAUSE_SECONDS = 0.3


def is_supported() -> bool:
    """True if a container's socket is one of this host: elsewhere, engines run containers in a virtual machine."""
    return sys.platform == "linux"


@dataclass
class Relay:
    """A relay of one container.

    Args:
        folder: The container's staged folder.
        listener: Listens on a port of 127.0.0.1.
    """

    folder: Folder
    listener: socket.socket
    _closed: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    @classmethod
    def start(cls, folder: Folder) -> Relay:
        """Listen on a free port; connections are closed at once until the container responds.

        Raises:
            OSError: No port is free.
        """
        relay = cls(folder, socket.create_server(("127.0.0.1", 0)))
        for work in (lambda: asyncio.run(relay._listen()), relay._keep_inner_side):
            relay._threads.append(threading.Thread(target=work, daemon=True))
            relay._threads[-1].start()
        return relay

    @property
    def port(self) -> int:
        """The port."""
        port: int = self.listener.getsockname()[1]
        return port

    def close(self) -> None:
        """Close the port and all connections, and end the program in the container."""
        self._closed.set()
        for thread in self._threads:
            thread.join()

    async def _listen(self) -> None:
        directory = os.open(self.folder.ml, os.O_RDONLY)
        try:  # a socket's path has 107 bytes at most
            path = f"/proc/self/fd/{directory}/{_SOCKET}"
            handler = socket_relay.passing_to(lambda: asyncio.open_unix_connection(path))
            server = await asyncio.start_server(handler, sock=self.listener)
            await asyncio.to_thread(self._closed.wait)
            server.close()  # and `asyncio.run` cancels what is under way
        finally:
            os.close(directory)

    def _keep_inner_side(self) -> None:
        """Start the program in the container, again when it ends: before the container runs it can't start."""
        source = Path(socket_relay.__file__).read_text(encoding="utf-8")
        while not self._closed.wait(_PAUSE_SECONDS):
            if (record := read_record(self.folder.root)) is None:  # the container has no name yet
                continue
            arguments = ["exec", record.name, "python", "-c", source, f"{PREFIX}/{_SOCKET}", str(SERVING_PORT)]
            with suppress(OSError):
                self._run([record.engine.name, *arguments])

    def _run(self, argv: list[str]) -> None:
        process = processes.start(
            argv, cwd=self.folder.root, env={**os.environ}, output=subprocess.DEVNULL, with_parent=True
        )
        while not process.has_ended(_PAUSE_SECONDS):
            if self._closed.is_set():
                process.kill()
        process.wait()
