"""uvicorn's protocols, which also give the application the way to the socket: ``readapi.http.client_stream.Stream``.

What is written goes to the transport as it is, and waits there, where it is shared by all who wait for it. The
application looks at how much that is and ends a connection that has too much.
"""

import asyncio
import socket
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

from infra.web_server.request_limits import ArrivingRequest, refusal
from readapi.http.client_stream import STREAM

SEND_BUFFER_BYTES = 262_144
"""What the kernel takes for one client. By itself it takes megabytes, and who reads nothing would long seem fine."""

END_SECONDS = 10.0
"""How long a client that is ended may take for what is waiting."""

STOP_SECONDS = 2.0
"""The same when the process stops; less than that waits."""

PONGS_BYTES = 65_536
"""A client that pings and takes no more of the answers than to leave so much waiting is told nothing any more."""

GOING_AWAY = 1001
FAILED = 1011


_NO_HANDSHAKE = refusal(
    HTTPStatus.BAD_REQUEST,
    "no-handshake",
    "this is no handshake of a WebSocket: it may have 128 headers of 8,192 bytes each, and no body",
)


def limit_send_buffer(transport: asyncio.Transport) -> None:
    """Let the kernel take no more than ``SEND_BUFFER_BYTES`` of what is written."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


class WebSocketStream(WebSocketsSansIOProtocol):
    """A WebSocket. Frames may be written between those of uvicorn: each of either is written whole, none compressed."""

    _refused = False

    def data_received(self, data: bytes) -> None:
        """As uvicorn, which does not look whether there has been a handshake."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(_NO_HANDSHAKE)
            self.transport.close()

    def handle_ping(self) -> None:
        """As uvicorn, unless the client takes no answers."""
        if self.unsent_bytes > PONGS_BYTES:
            self.conn.data_to_send()
        else:
            super().handle_ping()

    def handle_cont(self, event: Frame) -> None:
        """As uvicorn, which would gather parts of a message of which none counts towards its bound."""
        if event.data or event.fin:
            super().handle_cont(event)

    def handle_connect(self, event: Request) -> None:
        """As uvicorn, and the application's task, which has not begun yet, finds this stream."""
        super().handle_connect(event)
        if not self.handshake_complete:
            self.scope["extensions"] = {**self.scope["extensions"], STREAM: self}  # type: ignore[dict-item]

    @property
    def unsent_bytes(self) -> int:
        """As Stream."""
        return self.transport.get_write_buffer_size()

    @property
    def is_ended(self) -> bool:
        """As Stream."""
        return self.close_sent or self.disconnected or self.transport.is_closing()

    def open(self) -> None:
        """As Stream."""
        limit_send_buffer(self.transport)

    def write(self, data: bytes) -> None:
        """As Stream."""
        if not self.is_ended:
            self.transport.write(data)

    async def drain(self) -> None:
        """As Stream."""
        await self.writable.wait()

    def finish(self, code: int, reason: str) -> None:
        """As Stream."""
        if self.is_ended or not self.handshake_complete:
            return
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        # With this timer uvicorn closes the connection as soon as the client answers.
        self.close_timer = self.loop.call_later(END_SECONDS, self.transport.abort)

    async def wait_ended(self) -> None:
        """As Stream: the end is in ``receive``."""
        while (await self.receive())["type"] != "websocket.disconnect":
            pass

    async def refuse(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """As Stream."""
        if self.handshake_complete:
            self.finish(FAILED, "the service failed; its log says why")
            return
        await self.send({"type": "websocket.http.response.start", "status": status, "headers": list(headers)})
        await self.send({"type": "websocket.http.response.body", "body": body})
        # uvicorn would think that the request was left without an answer.
        self._refused = self.handshake_complete = True

    async def send(self, message: Any) -> None:
        """As uvicorn; but Falcon closes what has already been refused."""
        if not self._refused:
            await super().send(message)

    def shutdown(self) -> None:
        """The process stops."""
        self.finish(GOING_AWAY, "the service stops; come back")
        self.loop.call_later(STOP_SECONDS, self.transport.abort)
        super().shutdown()


class HttpStream(ArrivingRequest):
    """HTTP. While a response is a stream of events, its chunks are written here."""

    _over: asyncio.Event | None = None

    def on_message_begin(self) -> None:
        """As uvicorn, and the application finds this stream."""
        super().on_message_begin()
        self.scope["extensions"] = {STREAM: self}  # type: ignore[dict-item]

    @property
    def unsent_bytes(self) -> int:
        """As Stream."""
        return self.transport.get_write_buffer_size()

    @property
    def is_ended(self) -> bool:
        """As Stream."""
        return self._over is None or self._over.is_set() or self.transport.is_closing()

    def open(self) -> None:
        """As Stream."""
        limit_send_buffer(self.transport)
        self._over = asyncio.Event()

    def write(self, data: bytes) -> None:
        """As Stream."""
        if not self.is_ended:
            self.transport.write(data)

    async def drain(self) -> None:
        """As Stream."""
        await self.flow.drain()

    def finish(self, code: int = 0, reason: str = "") -> None:
        """As Stream: the application ends the response, and the connection with it."""
        del code, reason
        if self._over is None or self.is_ended:
            return
        self._over.set()
        if self.cycle is not None:
            self.cycle.keep_alive = False
        self.loop.call_later(END_SECONDS, self.transport.abort)

    async def wait_ended(self) -> None:
        """As Stream."""
        if self._over is not None:
            await self._over.wait()

    async def refuse(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """As Stream: there is no WebSocket to refuse."""
        raise NotImplementedError

    def _give_up(self) -> None:
        """As ArrivingRequest; clients of live push are dropped by what waits for them."""
        if self._over is None or self.is_ended:
            super()._give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or has been ended."""
        super().connection_lost(exc)
        if self._over is not None:
            self._over.set()

    def shutdown(self) -> None:
        """The process stops."""
        super().shutdown()
        self.finish()
        if self._over is not None:
            self.loop.call_later(STOP_SECONDS, self.transport.abort)
