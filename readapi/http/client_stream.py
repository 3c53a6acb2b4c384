"""The connection of one client that stays open: over its socket, or over ASGI.

Under TickView's own web server, messages are written to the socket (``SocketStream``), past ASGI: ``send`` of ASGI
costs a turn of a task and a dozen calls for every message and client. Under every other server, they are sent through
ASGI (``readapi/http/queued_stream.py``).
"""

from collections.abc import Sequence
from typing import Protocol

from falcon.asgi import Request

MAX_EVENT_ID_LENGTH = 8_192
"""Highest number of characters in the id of a live push event."""

END_SECONDS = 10.0
"""Seconds that a client has to read the unsent bytes after the application has ended the connection."""

STREAM = "tickview.stream"
"""Name of the ``SocketStream`` among the extensions of the ASGI scope."""


class Stream(Protocol):
    """An accepted connection. Data that is written after the end of the connection is discarded."""

    @property
    def unsent_bytes(self) -> int:
        """The number of written bytes that the operating system or the web server has not accepted yet."""
        ...

    @property
    def is_ended(self) -> bool:
        """Whether the connection is closed or about to close."""
        ...

    def write(self, data: bytes) -> None:
        """Send a complete message. This method never waits."""
        ...

    async def drain(self) -> None:
        """Wait until few bytes are unsent, or until the end of the connection."""
        ...

    def finish(self, code: int, reason: str) -> None:
        """End the connection after the unsent bytes.

        Args:
            code: Close code of a WebSocket.
            reason: Reason that a WebSocket client gets, at most 123 bytes.
        """
        ...

    def abort(self) -> None:
        """End the connection at once, and free the unsent bytes."""
        ...


class SocketStream(Stream, Protocol):
    """A connection whose messages are written to its socket: WebSocket frames, or chunks of an HTTP response."""

    def open(self) -> None:
        """Prepare the connection for ``write``: limit the bytes that the operating system buffers."""
        ...

    async def wait_ended(self) -> None:
        """Wait for the end of the connection, whichever side ends it."""
        ...

    async def refuse(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Refuse a WebSocket handshake with an HTTP response. Close an accepted WebSocket with code 1011."""
        ...


def find_socket_stream(req: Request) -> SocketStream | None:
    """Return the stream over the socket of a request's connection. None if the web server provides none."""
    stream: SocketStream | None = (req.scope.get("extensions") or {}).get(STREAM)
    return stream
