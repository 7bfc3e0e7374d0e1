"""Passes connections on to a port or to a socket's file; runs by itself in a container, so it imports no package.

`python socket_relay.py SOCKET PORT` listens on the socket and connects to the port of 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]
_CHUNK = 1 << 16


def passing_to(connect: Connect) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Return a handler of connections that passes each on to a new connection, in both directions."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            try:
                far_reader, far_writer = await connect()
            except OSError:  # the other side doesn't listen: this connection is closed
                return
            with contextlib.closing(far_writer):
                requests = asyncio.create_task(_pass(reader, far_writer))
                # The server ends a connection: a client may wait for a response after its last byte.
                await _pass(far_reader, writer)
                requests.cancel()

    return handle


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):  # the other direction may have ended before
        writer.write_eof()


async def _listen(path: str, port: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    handler = passing_to(lambda: asyncio.open_connection("127.0.0.1", port))
    async with await asyncio.start_unix_server(handler, path) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_listen(sys.argv[1], int(sys.argv[2])))
