"""The way to one client's socket, which the server that runs the application provides beside ASGI.

ASGI's ``send`` costs a task's turn and a dozen calls for each message and client. A stream takes bytes that were
encoded once for everybody.
"""

from collections.abc import Sequence
from typing import Protocol

from falcon.asgi import Request

from domain.errors import TickViewError

LONGEST_ID = 8_192
"""Characters that the id of an event of live push may have."""

STREAM = "tickview.stream"
"""The name of the connection's stream among the extensions of its ASGI scope."""


class Stream(Protocol):
    """One connection, once it has been accepted. What is written after its end is nowhere."""

    @property
    def waiting(self) -> int:
        """Bytes written that the operating system has not taken yet."""
        ...

    @property
    def ended(self) -> bool:
        """Whether it is closed, or about to be."""
        ...

    def open(self) -> None:
        """Bytes will be written: limit what the operating system takes of them."""
        ...

    def write(self, data: bytes) -> None:
        """Send a whole frame or chunk. Never waits."""
        ...

    async def drained(self) -> None:
        """Return when not much is waiting, or at the end."""
        ...

    def finish(self, code: int, reason: str) -> None:
        """End it behind what is waiting; ``code`` and ``reason`` (123 bytes at most) are told to a WebSocket."""
        ...

    async def over(self) -> None:
        """Return at the end, whoever ended it."""
        ...

    async def refuse(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer a WebSocket's request with this instead of accepting it; close it (1011) if it was accepted."""
        ...


class NoStreamError(TickViewError):
    """The server that runs the application has no streams: it is another than ours."""


def find_stream(req: Request) -> Stream | None:
    """The stream of a request's connection; None where the server has none."""
    stream: Stream | None = (req.scope.get("extensions") or {}).get(STREAM)
    return stream


def stream_of(req: Request) -> Stream:
    """The stream of a request's connection. Raises NoStreamError."""
    stream = find_stream(req)
    if stream is None:
        raise NoStreamError
    return stream
