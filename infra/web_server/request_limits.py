"""Requests as they arrive: who sends them too slowly, or too much around the body, is answered and hung up on.

Deadlines cost nothing where a request arrives at once: a timer is set only if, after what was read, some is missing.
"""

import asyncio
from http import HTTPStatus
from typing import Literal

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from readapi.http.problems import MEDIA_TYPE, Problem

HEAD_SECONDS = 10.0
"""How long the head of a request may take, from the connection's beginning or from its own first byte."""

BODY_SECONDS = 30.0
"""How long its body may take, from the end of its head."""

TAKE_SECONDS = 60.0
"""How long an answer that waits for its client may wait."""

HEAD_BYTES = 32_768
"""What request line and headers may take together; and what may come, chunk sizes and trailers, without any body."""

HTTP_VERSIONS = ("1.1", "1.0")

Part = Literal["head", "body"]


def refusal(status: HTTPStatus, kind: str, detail: str) -> bytes:
    """An answer to what has not become a request."""
    body = orjson.dumps(Problem(status, kind, detail).document())
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    ).encode() + body


_NO_HTTP = refusal(HTTPStatus.BAD_REQUEST, "not-http", "this is no request of HTTP/1.1 that names one host")
_TOO_SLOW = refusal(
    HTTPStatus.REQUEST_TIMEOUT,
    "too-slow",
    f"the head of a request must arrive within {HEAD_SECONDS:g} s and its body within {BODY_SECONDS:g} s more",
)
_TOO_LARGE = refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "head-too-large",
    f"request line and headers may have {HEAD_BYTES:,} bytes together, and so may what is around a chunked body",
)


class ArrivingRequest(HttpToolsProtocol):
    """uvicorn's protocol with deadlines for the arrival of a request, and a bound on its head."""

    _arriving: Part | None = "head"
    _watched: Part | None = None
    _deadline: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None
    _bodiless_bytes = 0
    """What has come since the request began, or since there was something of its body."""
    _last_read = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client that only connects is one that is slow."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """As uvicorn."""
        self._last_read = len(data)
        rested, latest = self.timeout_keep_alive_task is not None, self.scope
        super().data_received(data)
        if rested and self.scope is latest:
            # Empty lines: uvicorn has put off the end of the connection, and no request has begun.
            self._arriving = "head"
        if self._arriving is not None:
            self._bodiless_bytes += len(data)
            if self._bodiless_bytes > HEAD_BYTES:
                self._refuse(_TOO_LARGE)
        if self._arriving != self._watched:
            self._watch()

    def on_message_begin(self) -> None:
        """A head begins to arrive."""
        super().on_message_begin()
        self._arriving, self._bodiless_bytes = "head", 0

    def on_headers_complete(self) -> None:
        """The head has arrived. Raises ValueError, which ends the connection, for one that is not to be answered."""
        if self._bodiless_bytes + self._last_read > HEAD_BYTES and self._size_of_head() > HEAD_BYTES:
            raise ValueError("the head is too large")
        version, hosts = self.parser.get_http_version(), [name for name, _ in self.headers].count(b"host")
        if version not in HTTP_VERSIONS or hosts > 1 or (hosts == 0 and version == "1.1"):
            raise ValueError("no such version, or not one host")
        self._arriving, self._bodiless_bytes = "body", -self._last_read
        super().on_headers_complete()
        if not self.parser.should_upgrade():
            # What comes behind the body is no header, whatever it is called.
            self.headers = []

    def on_body(self, body: bytes) -> None:
        """Some of the body has arrived."""
        self._bodiless_bytes = -self._last_read
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it has arrived."""
        self._arriving = None
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """As uvicorn, which has met what is no HTTP, or what we have refused; in our words."""
        del msg
        too_large = self._arriving == "head" and self.headers is not None and self._size_of_head() > HEAD_BYTES
        self._refuse(_TOO_LARGE if too_large else _NO_HTTP)

    def pause_writing(self) -> None:
        """The client does not take what it asked for."""
        super().pause_writing()
        self._taking = self.loop.call_later(TAKE_SECONDS, self._give_up)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def on_response_complete(self) -> None:
        """As uvicorn, which may have closed the connection with it."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._hang_up()

    def timeout_keep_alive_handler(self) -> None:
        """The client asks nothing more."""
        self._hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will arrive."""
        super().connection_lost(exc)
        self._arriving = None
        self._watch()
        if self._taking is not None:
            self._taking.cancel()

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
        # What stands in the pipeline waits for another answer to be said.
        if not self.pipeline and (
            self.cycle is None or self.cycle.response_complete or not self.cycle.response_started
        ):
            self.transport.write(answer)
        self._hang_up()

    def _hang_up(self) -> None:
        """Close the connection behind what the client has yet to take, for which it has not for ever."""
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self.loop.call_later(TAKE_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self.transport.abort()
