"""Time and size limits of HTTP requests. A request beyond a limit is refused, and its connection is closed.

The time limits cost nothing for a request that arrives in one piece: a timer is set only if a part of the request is
missing after a read.
"""

import asyncio
import sys
from http import HTTPStatus
from typing import Any, Literal

import httptools
import orjson
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from readapi.http.problems import MEDIA_TYPE, Problem

HEAD_SECONDS = 10.0
"""Seconds within which the head of a request must arrive.

For the first request, they begin with the connection. For each later request, they begin with its first byte.
"""

BODY_SECONDS = 30.0
"""Seconds within which the body of a request must arrive, from the end of its head."""

UNREAD_SECONDS = 60.0
"""Seconds for which a client may leave a response unread."""

HEAD_BYTES = 32_768
"""Highest number of bytes of request line and headers, and of chunk sizes and trailers between parts of the body."""

HTTP_VERSIONS = ("1.1", "1.0")
"""Versions of HTTP that are served."""

Part = Literal["head", "body"]


def refusal(status: HTTPStatus, kind: str, detail: str) -> bytes:
    """Encode the response to a request that cannot be parsed."""
    body = orjson.dumps(Problem(status, kind, detail).document())
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    ).encode() + body


_NOT_HTTP = refusal(
    HTTPStatus.BAD_REQUEST, "not-http", "the request is not HTTP/1.0 or HTTP/1.1, or it does not name exactly one host"
)
_TOO_SLOW = refusal(
    HTTPStatus.REQUEST_TIMEOUT,
    "too-slow",
    f"the head of a request must arrive within {HEAD_SECONDS:g} s, and its body within {BODY_SECONDS:g} s after the "
    "head",
)
_TOO_LARGE = refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "head-too-large",
    f"request line and headers may have {HEAD_BYTES:,} bytes together, as may chunk sizes and trailers of a body",
)


_CLOSED_TRANSPORT = "unable to perform operation on <TCPTransport closed=True"
"""Beginning of the text of the ``RuntimeError`` that uvloop raises for a closed connection."""


def _end_with_connection(cycle: RequestResponseCycle, app: ASGI3Application) -> ASGI3Application:
    """Return the application of a request. It ends without an error if the connection was closed before its response.

    uvicorn tells a request that its client has left, but not the request before a WebSocket handshake on the same
    connection. Its response would be logged as a failure of the application.
    """

    async def run(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except RuntimeError as error:
            if not str(error).startswith(_CLOSED_TRANSPORT):
                raise
            cycle.disconnected = True

    return run


class LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with time limits for requests and responses, and a size limit for heads."""

    _incoming: Part | None = "head"
    """The part of a request that is arriving now."""
    _timed: Part | None = None
    """The part of a request for which the timer is set."""
    _request_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None
    _running: RequestResponseCycle | None = None
    """The last request that was started. Further requests of the connection may wait behind it."""
    _bytes_without_body = 0
    """Bytes received since the request began, or since the last part of its body."""
    _last_read = b""
    _ignores_upgrade = False
    """True while the parser reads the head of a request that asks for another protocol than WebSocket."""
    _reread = b""
    """The request without its header Upgrade, and the data behind its head, which the parser must read again."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer: the head of the first request is due."""
        super().connection_made(transport)
        self._set_request_timer()

    def data_received(self, data: bytes) -> None:
        """Parse the data, then check the limits."""
        self._last_read = data
        was_idle, latest = self.timeout_keep_alive_task is not None, self.scope
        super().data_received(data)
        # Without recursion: one packet can have a thousand such requests.
        while self._reread:
            self._last_read, self._reread = self._reread, b""
            super().data_received(self._last_read)
        if was_idle and self.scope is latest:
            # The data was empty lines. uvicorn has cancelled its keep-alive timer, although no request has begun.
            self._incoming = "head"
        if self._incoming is not None:
            self._bytes_without_body += len(data)
            if self._bytes_without_body > HEAD_BYTES:
                self._refuse(_TOO_LARGE)
        if self._incoming != self._timed:
            self._set_request_timer()

    def on_message_begin(self) -> None:
        """Note that a head begins."""
        super().on_message_begin()
        self._incoming, self._bytes_without_body, self._ignores_upgrade = "head", 0, False

    def on_headers_complete(self) -> None:
        """Check the head, then start the request.

        Raises:
            ValueError: The request must be refused. The parser then calls ``send_400_response``.
        """
        if self._bytes_without_body + len(self._last_read) > HEAD_BYTES and self._head_bytes() > HEAD_BYTES:
            raise ValueError("the head is too large")
        version, hosts = self.parser.get_http_version(), [name for name, _ in self.headers].count(b"host")
        if version not in HTTP_VERSIONS or hosts > 1 or (hosts == 0 and version == "1.1"):
            raise ValueError("unknown version, or not exactly one host")
        if not self.url.startswith(b"/"):
            self._take_host_of_target()
        if self.parser.should_upgrade() and not self._should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("no proxy")
            self._ignores_upgrade = True
            return
        self._incoming, self._bytes_without_body = "body", -len(self._last_read)
        super().on_headers_complete()
        if not self.parser.should_upgrade():
            # Trailers after the body must not become headers of the request.
            self.headers = []

    def on_body(self, body: bytes) -> None:
        """Note that a part of the body has arrived."""
        self._bytes_without_body = -len(self._last_read)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the whole request has arrived."""
        if not self._ignores_upgrade:
            self._incoming = None
            super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Prepare to read the request without its header Upgrade, which a server may ignore (RFC 9110, section 7.8).

        The parser takes everything behind the head for another protocol. It would read the body as the next request.
        """
        upgrade = sys.exception()
        assert isinstance(upgrade, httptools.HttpParserUpgrade)
        version = self.parser.get_http_version().encode()
        head = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        head += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self._reread = b"\r\n".join([*head, b"", b""]) + self._last_read[upgrade.args[0] :]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # like uvicorn

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Start a request, and remember it: uvicorn knows only the last request of a connection."""
        self._running = cycle
        super()._start_asgi_task(cycle, _end_with_connection(cycle, app))

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that uvicorn cannot parse or that ``on_headers_complete`` has refused."""
        del msg
        too_large = self._incoming == "head" and self.headers is not None and self._head_bytes() > HEAD_BYTES
        self._refuse(_TOO_LARGE if too_large else _NOT_HTTP)

    def pause_writing(self) -> None:
        """Start the timer for a client that does not read its response."""
        super().pause_writing()
        self._unread_timer = self.loop.call_later(UNREAD_SECONDS, self._abort_unread)

    def resume_writing(self) -> None:
        """Stop the timer: the client reads again."""
        super().resume_writing()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def on_response_complete(self) -> None:
        """Limit the time for the rest of the response if uvicorn closes the connection after it."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._close()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection."""
        self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers. Tell the running request, although another one may wait behind it."""
        super().connection_lost(exc)
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        self._incoming = None
        self._set_request_timer()
        if self._unread_timer is not None:
            self._unread_timer.cancel()

    def _take_host_of_target(self) -> None:
        """Let the host of an absolute request target replace the header Host (RFC 9112, section 3.2.2)."""
        target = httptools.parse_url(self.url)
        if target.host is None or target.userinfo:
            raise ValueError("no host, or a user")
        host = b"[%b]" % target.host if b":" in target.host else target.host
        host += b":%d" % target.port if target.port else b""
        self.headers[:] = [(name, host if name == b"host" else value) for name, value in self.headers]

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _set_request_timer(self) -> None:
        """Set the timer for the part that is arriving, or no timer."""
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None
        self._timed = self._incoming
        if self._incoming is not None:
            seconds = HEAD_SECONDS if self._incoming == "head" else BODY_SECONDS
            self._request_timer = self.loop.call_later(seconds, self._refuse, _TOO_SLOW)

    def _refuse(self, response: bytes) -> None:
        """Send a refusal unless another response is under way, and close the connection."""
        if self.transport.is_closing():
            return
        # A pipelined request waits until the response to the request before it is complete.
        if not self.pipeline and (
            self.cycle is None or self.cycle.response_complete or not self.cycle.response_started
        ):
            self.transport.write(response)
        self._close()

    def _close(self) -> None:
        """Close the connection after the unsent bytes. The client has limited time to read them."""
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self.loop.call_later(UNREAD_SECONDS, self._abort_unread)

    def _abort_unread(self) -> None:
        """Abort the connection of a client that does not read."""
        self.transport.abort()
