"""Requests as they arrive: who sends them too slowly, or too much before the body, is answered and hung up on.

Deadlines cost nothing where a request arrives at once: a timer is set only if, after what was read, some is missing.
"""

import asyncio
from http import HTTPStatus
from typing import Literal

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from readapi.problems import MEDIA_TYPE, Problem

HEAD_SECONDS = 10.0
"""How long the head of a request may take, from the connection's beginning or from its own first byte."""

BODY_SECONDS = 30.0
"""How long its body may take, from the end of its head."""

HEAD_BYTES = 32_768
"""What request line and headers may take together."""

Part = Literal["head", "body"]


def _refusal(status: HTTPStatus, kind: str, detail: str) -> bytes:
    """An answer to what has not become a request."""
    body = orjson.dumps(Problem(status, kind, detail).document())
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    ).encode() + body


_NO_HTTP = _refusal(HTTPStatus.BAD_REQUEST, "not-http", "this is no request of HTTP/1.1")
_TOO_SLOW = _refusal(
    HTTPStatus.REQUEST_TIMEOUT,
    "too-slow",
    f"the head of a request must arrive within {HEAD_SECONDS:g} s and its body within {BODY_SECONDS:g} s more",
)
_TOO_LARGE = _refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "head-too-large",
    f"request line and headers may have {HEAD_BYTES:,} bytes together",
)


class ArrivingRequest(HttpToolsProtocol):
    """uvicorn's protocol with deadlines for the arrival of a request, and a bound on its head."""

    _arriving: Part | None = "head"
    _watched: Part | None = None
    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _last_read = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client that only connects is one that is slow."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """As uvicorn."""
        self._last_read = len(data)
        super().data_received(data)
        if self._arriving == "head":
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(_TOO_LARGE)
        if self._arriving != self._watched:
            self._watch()

    def on_message_begin(self) -> None:
        """A head begins to arrive."""
        super().on_message_begin()
        self._arriving = "head"

    def on_headers_complete(self) -> None:
        """The head has arrived. Raises ValueError, which ends the connection, if it is too large."""
        if self._head_bytes + self._last_read > HEAD_BYTES and self._size_of_head() > HEAD_BYTES:
            raise ValueError("the head is too large")
        self._arriving, self._head_bytes = "body", 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of it has arrived."""
        self._arriving = None
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """As uvicorn, which has met what is no HTTP, or what we have refused; in our words."""
        del msg
        too_large = self._arriving == "head" and self.headers is not None and self._size_of_head() > HEAD_BYTES
        self._refuse(_TOO_LARGE if too_large else _NO_HTTP)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will arrive."""
        super().connection_lost(exc)
        self._arriving = None
        self._watch()

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _watch(self) -> None:
        """Set the deadline for what is arriving, or none."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._watched = self._arriving
        if self._arriving is not None:
            seconds = HEAD_SECONDS if self._arriving == "head" else BODY_SECONDS
            self._deadline = self.loop.call_later(seconds, self._refuse, _TOO_SLOW)

    def _refuse(self, answer: bytes) -> None:
        """Say why, if nothing else is being said, and hang up."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(answer)
        self.transport.close()
