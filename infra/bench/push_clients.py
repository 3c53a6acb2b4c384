"""A process with thousands of clients of live push, which record the time of each received message."""

import asyncio
import time
from array import array
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Literal, NamedTuple, cast

import uvloop

from infra.bench.errors import BenchmarkError

Transport = Literal["websocket", "sse"]

CONNECT_BATCH = 100
"""Number of connections that are opened at the same time."""

ACCEPT_SECONDS = 30.0
"""Seconds in which the server must accept all connections."""


class ReceivedMessages(NamedTuple):
    """The received messages: each distinct message and the epoch seconds at which clients received it completely."""

    messages: dict[bytes, "array[float]"]
    closed: int
    """Number of connections that closed before the end."""


def run_clients(pipe: Connection, port: int, path: str, connections: int, transport: Transport) -> None:
    """Connect the clients and send ``ready``. After the next message, send the received messages."""
    uvloop.run(_run_clients(pipe, port, path, connections, transport))


async def _run_clients(pipe: Connection, port: int, path: str, connections: int, transport: Transport) -> None:
    loop = asyncio.get_running_loop()
    received: dict[bytes, array[float]] = {}
    clients: list[_Client] = []
    for start in range(0, connections, CONNECT_BATCH):
        opened = [
            loop.create_connection(lambda: _Client(path, transport, received), "127.0.0.1", port)
            for _ in range(start, min(start + CONNECT_BATCH, connections))
        ]
        clients += [client for _, client in await asyncio.gather(*opened)]
    async with asyncio.timeout(ACCEPT_SECONDS):
        await asyncio.gather(*(client.accepted for client in clients))
    pipe.send("ready")
    await asyncio.to_thread(pipe.recv)
    closed = sum(client.closed for client in clients)
    pipe.send(ReceivedMessages(received, closed))


class _Client(asyncio.Protocol):
    """The connection of one client."""

    def __init__(self, path: str, transport: Transport, received: "dict[bytes, array[float]]") -> None:
        self._request = (_UPGRADE if transport == "websocket" else _GET) % path.encode()
        self._accepting = b"HTTP/1.1 101" if transport == "websocket" else b"HTTP/1.1 200"
        self._next: Callable[[bytes, int], tuple[int, int, int] | None] = (
            _next_frame if transport == "websocket" else _next_chunk
        )
        self._received = received
        self._buffer = b""
        self.accepted = asyncio.get_running_loop().create_future()
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        # The transports of uvloop are not subclasses of asyncio.Transport.
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        """Record the time of each complete message."""
        now = time.time()
        if self._buffer:
            data = self._buffer + data
        offset = 0
        if not self.accepted.done():
            offset = data.find(b"\r\n\r\n") + 4
            if offset < 4:
                self._buffer = data
                return
            if not data.startswith(self._accepting):
                self.accepted.set_exception(BenchmarkError(data[:200].decode(errors="replace")))
                return
            self.accepted.set_result(None)
        while (bounds := self._next(data, offset)) is not None:
            start, end, offset = bounds
            message = data[start:end]
            moments = self._received.get(message)
            if moments is None:
                moments = self._received[message] = array("d")
            moments.append(now)
        self._buffer = data[offset:]

    def connection_lost(self, exc: Exception | None) -> None:
        """Record that the connection closed early."""
        del exc
        self.closed = True
        if not self.accepted.done():
            self.accepted.set_exception(BenchmarkError("The server closed the connection before it accepted it."))


_UPGRADE = (
    b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_GET = b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def _next_frame(data: bytes, start: int) -> tuple[int, int, int] | None:
    """Return the start and end of the payload of the frame at ``start``, and the start of the next frame.

    Returns None if the frame is incomplete. The format of a frame is defined in RFC 6455, section 5.2.
    """
    if len(data) < start + 10:
        size, head = (data[start + 1], 2) if len(data) > start + 1 else (126, 10)
        if size > 125:
            return None
    else:
        size, head = data[start + 1], 2
        if size == 126:
            size, head = int.from_bytes(data[start + 2 : start + 4]), 4
        elif size == 127:
            size, head = int.from_bytes(data[start + 2 : start + 10]), 10
    end = start + head + size
    return (start + head, end, end) if end <= len(data) else None


def _next_chunk(data: bytes, start: int) -> tuple[int, int, int] | None:
    """Return the start and end of the data of the chunk at ``start``, and the start of the next chunk.

    Returns None if the chunk is incomplete. The format of a chunk is defined in RFC 9112, section 7.1.
    """
    line = data.find(b"\r\n", start)
    if line < 0:
        return None
    end = line + 2 + int(data[start:line], 16)
    return (line + 2, end, end + 2) if end + 2 <= len(data) else None
