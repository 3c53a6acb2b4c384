"""uvicorn's protocols with direct access to the client's socket: implementations of ``SocketStream``.

Written bytes go to the transport unchanged. While the client does not accept them, they wait in the transport, where
all connections share the same bytes object. The application compares their number with a bound and ends a connection
that exceeds it.
"""

import asyncio
import socket
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

from infra.web_server.cohort import cohort
from infra.web_server.request_limits import LimitedHttpProtocol, refusal
from readapi.http.client_stream import END_SECONDS, STREAM
from readapi.http.immediate import AnswerImmediately, ImmediateAnswer

SEND_BUFFER_BYTES = 262_144
"""Bytes that the kernel buffers for one client. By default it buffers megabytes, which hides a client that is stuck."""

STOP_SECONDS = 2.0
"""Seconds that a client has to read the unsent bytes when the process stops."""

MAX_PONG_BYTES = 65_536
"""Number of unsent bytes beyond which pings get no answer, because the client does not read the answers."""

GOING_AWAY = 1001
"""WebSocket close code: the server stops (RFC 6455, section 7.4.1)."""

INTERNAL_ERROR = 1011
"""WebSocket close code: the server failed (RFC 6455, section 7.4.1)."""

_NO_HANDSHAKE = refusal(
    HTTPStatus.BAD_REQUEST,
    "no-handshake",
    "the request is not a WebSocket handshake: it may have 128 headers of 8,192 bytes each, and no body",
)


def limit_send_buffer(transport: asyncio.Transport) -> None:
    """Limit the bytes that the kernel buffers for a connection to ``SEND_BUFFER_BYTES``."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


class WebSocketStream(WebSocketsSansIOProtocol):
    """A WebSocket. Implements ``SocketStream``.

    The application may write frames between those of uvicorn, because every frame is written whole and uncompressed.
    """

    _is_refused = False

    def data_received(self, data: bytes) -> None:
        """Parse the data. Refuse a request that is not a handshake, which uvicorn would leave without a response."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(_NO_HANDSHAKE)
            self.transport.close()

    def handle_ping(self) -> None:
        """Answer a ping, unless the client does not read the answers."""
        if self.unsent_bytes > MAX_PONG_BYTES:
            self.conn.data_to_send()
        else:
            super().handle_ping()

    def handle_cont(self, event: Frame) -> None:
        """Handle a continuation frame. Ignore empty frames, which do not count towards uvicorn's size limit."""
        if event.data or event.fin:
            super().handle_cont(event)

    def handle_connect(self, event: Request) -> None:
        """Handle the handshake, and put this stream into the scope. The application's task has not started yet."""
        super().handle_connect(event)
        if not self.handshake_complete:
            self.scope["extensions"] = {**self.scope["extensions"], STREAM: self}  # type: ignore[dict-item]

    @property
    def unsent_bytes(self) -> int:
        """The number of written bytes that the operating system has not accepted yet."""
        return self.transport.get_write_buffer_size()

    @property
    def is_ended(self) -> bool:
        """Whether the connection is closed or about to close."""
        return self.close_sent or self.disconnected or self.transport.is_closing()

    def open(self) -> None:
        """Prepare the connection for ``write``."""
        limit_send_buffer(self.transport)

    def write(self, data: bytes) -> None:
        """Send a complete frame."""
        if not self.is_ended:
            self.transport.write(data)

    async def drain(self) -> None:
        """Wait until few bytes are unsent, or until the end of the connection."""
        await self.writable.wait()

    def finish(self, code: int, reason: str) -> None:
        """Close the WebSocket after the unsent bytes."""
        if self.is_ended or not self.handshake_complete:
            return
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        # While this timer is set, uvicorn closes the connection as soon as the client answers the close frame.
        self.close_timer = self.loop.call_later(END_SECONDS, self.transport.abort)

    def abort(self) -> None:
        """End the connection at once, and free the unsent bytes."""
        self.transport.abort()

    async def wait_ended(self) -> None:
        """Wait for the end of the connection, which ``receive`` reports."""
        while (await self.receive())["type"] != "websocket.disconnect":
            pass

    async def refuse(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Refuse the handshake with an HTTP response. Close an accepted WebSocket."""
        if self.handshake_complete:
            self.finish(INTERNAL_ERROR, "the service failed; its log says why")
            return
        await self.send({"type": "websocket.http.response.start", "status": status, "headers": list(headers)})
        await self.send({"type": "websocket.http.response.body", "body": body})
        # uvicorn does not count an HTTP response as the end of the handshake, and would log a missing response.
        self._is_refused = self.handshake_complete = True

    async def send(self, message: Any) -> None:
        """Send an ASGI message. Ignore messages after a refusal: Falcon closes the WebSocket once more."""
        if not self._is_refused:
            await super().send(message)

    def shutdown(self) -> None:
        """Close the WebSocket because the process stops."""
        self.finish(GOING_AWAY, "the service stops; connect again")
        self.loop.call_later(STOP_SECONDS, self.transport.abort)
        super().shutdown()


class HttpStream(LimitedHttpProtocol):
    """An HTTP connection. Implements ``SocketStream``: the chunks of an event stream are written directly."""

    _ended: asyncio.Event | None = None
    """Set at the end of the event stream. None while the response is not an event stream."""

    def on_message_begin(self) -> None:
        """Start a request, and put this stream into its scope."""
        super().on_message_begin()
        self.scope["extensions"] = {STREAM: self}  # type: ignore[dict-item]

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Start the work on an immediate answer (``readapi.http.immediate``) if there is any, or the application."""
        answer: AnswerImmediately | None = getattr(app, "answer_immediately", None)
        work = answer(cast("dict[str, Any]", cycle.scope)) if answer and not self.flow.write_paused else None
        if work is None:
            super()._start_asgi_task(cycle, app)
        else:
            cohort.join(self.loop, work, partial(self._end_work, cycle, app))

    def _end_work(self, cycle: RequestResponseCycle, app: ASGI3Application, answer: ImmediateAnswer | None) -> None:
        """Send the immediate answer. If there is none, start the application."""
        if answer is None:
            super()._start_asgi_task(cycle, app)
        elif not cycle.disconnected and not self.transport.is_closing():
            self._send_complete(cycle, answer)

    def _send_complete(self, cycle: RequestResponseCycle, answer: ImmediateAnswer) -> None:
        """Send a complete response, with the same effects on the connection as the two messages of ASGI."""
        status, headers, body = answer
        lines = [
            STATUS_LINE[status],
            *[b"%b: %b\r\n" % header for header in self.server_state.default_headers],
            headers,
        ]
        if status != HTTPStatus.NOT_MODIFIED:
            lines.append(b"content-length: %d\r\n" % len(body))
        lines.append(b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n")
        lines.append(body)
        cycle.response_started = cycle.response_complete = True
        self.transport.write(b"".join(lines))
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    @property
    def unsent_bytes(self) -> int:
        """The number of written bytes that the operating system has not accepted yet."""
        return self.transport.get_write_buffer_size()

    @property
    def is_ended(self) -> bool:
        """Whether the event stream is closed or about to close."""
        return self._ended is None or self._ended.is_set() or self.transport.is_closing()

    def open(self) -> None:
        """Prepare the connection for ``write``."""
        limit_send_buffer(self.transport)
        self._ended = asyncio.Event()

    def write(self, data: bytes) -> None:
        """Send a complete chunk."""
        if not self.is_ended:
            self.transport.write(data)

    async def drain(self) -> None:
        """Wait until few bytes are unsent, or until the end of the connection."""
        await self.flow.drain()

    def finish(self, code: int = 0, reason: str = "") -> None:
        """End the event stream. The application then ends the response, and the connection closes after it."""
        del code, reason
        if self._ended is None or self.is_ended:
            return
        self._ended.set()
        if self.cycle is not None:
            self.cycle.keep_alive = False
        self.loop.call_later(END_SECONDS, self.transport.abort)

    def abort(self) -> None:
        """End the connection at once, and free the unsent bytes."""
        self.transport.abort()

    async def wait_ended(self) -> None:
        """Wait for the end of the event stream."""
        if self._ended is not None:
            await self._ended.wait()

    async def refuse(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Raise NotImplementedError: only a WebSocket handshake can be refused."""
        raise NotImplementedError

    def _abort_unread(self) -> None:
        """Abort the connection of a client that does not read. The hub drops the clients of event streams itself."""
        if self._ended is None or self.is_ended:
            super()._abort_unread()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the event stream."""
        super().connection_lost(exc)
        if self._ended is not None:
            self._ended.set()

    def shutdown(self) -> None:
        """End the event stream because the process stops."""
        super().shutdown()
        self.finish()
        if self._ended is not None:
            self.loop.call_later(STOP_SECONDS, self.transport.abort)


PROTOCOL_OPTIONS: dict[str, Any] = {
    "loop": "uvloop",
    "http": HttpStream,
    "ws": WebSocketStream,
    # Compression would have to run once for every client.
    "ws_per_message_deflate": False,
}
"""Options of uvicorn for the protocols of this module."""


def run(application: Any, **options: Any) -> None:
    """Serve an ASGI application in this process, without gunicorn.

    Args:
        application: The application.
        options: Further options of uvicorn.
    """
    uvicorn.run(application, **PROTOCOL_OPTIONS, **options)
