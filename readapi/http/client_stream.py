"""Direct access to the socket of one client, which the web server provides beside ASGI.

``send`` of ASGI costs a turn of a task and a dozen calls for every message and client. A stream takes bytes that are
encoded once for all clients.
"""

from collections.abc import Sequence
from typing import Protocol

from falcon.asgi import Request

from domain.errors import TickViewError

MAX_EVENT_ID_LENGTH = 8_192
"""Highest number of characters in the id of a live push event."""

STREAM = "tickview.stream"
"""Name of the stream among the extensions of the ASGI scope."""


class Stream(Protocol):
    """An accepted connection. Data that is written after the end of the connection is discarded."""

    @property
    def unsent_bytes(self) -> int:
        """The number of written bytes that the operating system has not accepted yet."""
        ...

    @property
    def is_ended(self) -> bool:
        """Whether the connection is closed or about to close."""
        ...

    def open(self) -> None:
        """Prepare the connection for ``write``: limit the bytes that the operating system buffers."""
        ...

    def write(self, data: bytes) -> None:
        """Send a complete frame or chunk. This method never waits."""
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

    async def wait_ended(self) -> None:
        """Wait for the end of the connection, whichever side ends it."""
        ...

    async def refuse(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Refuse a WebSocket handshake with an HTTP response. Close an accepted WebSocket with code 1011."""
        ...


class NoStreamError(TickViewError):
    """The web server provides no streams, because it is not TickView's."""


def find_stream(req: Request) -> Stream | None:
    """Return the stream of a request's connection. None if the web server provides no streams."""
    stream: Stream | None = (req.scope.get("extensions") or {}).get(STREAM)
    return stream


def stream_of(req: Request) -> Stream:
    """Return the stream of a request's connection.

    Raises:
        NoStreamError: The web server provides no streams.
    """
    stream = find_stream(req)
    if stream is None:
        raise NoStreamError
    return stream
