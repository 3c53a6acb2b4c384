"""Thousands of clients of live push in a process of their own: each takes what comes and notes when it came."""

import asyncio
import time
from array import array
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Literal, NamedTuple, cast

import uvloop

Transport = Literal["websocket", "sse"]

CONNECTING = 100
"""Connections that are opened at once."""

ACCEPT_SECONDS = 30.0
"""How long the server may take to accept them all."""


class Arrived(NamedTuple):
    """What came: each message with the moments (epoch seconds) at which clients had it whole."""

    messages: dict[bytes, "array[float]"]
    closed: int
    """Connections that were closed before the end."""


def run(pipe: Connection, port: int, path: str, connections: int, transport: Transport) -> None:
    """Connect, say so, and hand over what has arrived when told to stop."""
    uvloop.run(_run(pipe, port, path, connections, transport))


async def _run(pipe: Connection, port: int, path: str, connections: int, transport: Transport) -> None:
    loop = asyncio.get_running_loop()
    arrived: dict[bytes, array[float]] = {}
    clients: list[_Client] = []
    for start in range(0, connections, CONNECTING):
        opened = [
            loop.create_connection(lambda: _Client(path, transport, arrived), "127.0.0.1", port)
            for _ in range(start, min(start + CONNECTING, connections))
        ]
        clients += [client for _, client in await asyncio.gather(*opened)]
    async with asyncio.timeout(ACCEPT_SECONDS):
        await asyncio.gather(*(client.accepted for client in clients))
    pipe.send("ready")
    await asyncio.to_thread(pipe.recv)
    closed = sum(client.closed for client in clients)
    pipe.send(Arrived(arrived, closed))


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, path: str, transport: Transport, arrived: "dict[bytes, array[float]]") -> None:
        self._request = (_UPGRADE if transport == "websocket" else _GET) % path.encode()
        self._accepting = b"HTTP/1.1 101" if transport == "websocket" else b"HTTP/1.1 200"
        self._next: Callable[[bytes, int], tuple[int, int, int] | None] = (
            _next_frame if transport == "websocket" else _next_chunk
        )
        self._arrived = arrived
        self._rest = b""
        self.accepted = asyncio.get_running_loop().create_future()
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        # uvloop's transports are no subclasses.
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        """Note the messages that are whole."""
        now = time.time()
        if self._rest:
            data = self._rest + data
        place = 0
        if not self.accepted.done():
            place = data.find(b"\r\n\r\n") + 4
            if place < 4:
                self._rest = data
                return
            if not data.startswith(self._accepting):
                self.accepted.set_exception(RuntimeError(data[:200].decode(errors="replace")))
                return
            self.accepted.set_result(None)
        while (found := self._next(data, place)) is not None:
            start, end, place = found
            message = data[start:end]
            moments = self._arrived.get(message)
            if moments is None:
                moments = self._arrived[message] = array("d")
            moments.append(now)
        self._rest = data[place:]

    def connection_lost(self, exc: Exception | None) -> None:
        """It should not have been."""
        del exc
        self.closed = True
        if not self.accepted.done():
            self.accepted.set_exception(RuntimeError("closed before it was accepted"))


_UPGRADE = (
    b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_GET = b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def _next_frame(data: bytes, start: int) -> tuple[int, int, int] | None:
    """Start and end of the payload of the frame at ``start``, and where the next begins; None if it is not whole."""
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
    """The same for a chunk of a chunked body."""
    line = data.find(b"\r\n", start)
    if line < 0:
        return None
    end = line + 2 + int(data[start:line], 16)
    return (line + 2, end, end + 2) if end + 2 <= len(data) else None
