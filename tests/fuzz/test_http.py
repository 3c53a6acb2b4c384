"""Hostile bytes on the sockets of the API: every connection gets answers or is closed, and no process dies."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote_from_bytes

import httpx
import psutil
import pytest
from hypothesis import strategies as st

from tests.fuzz.budget import TIMEOUT_SECONDS, fuzz
from tests.fuzz.mutations import INTERESTING, mutated
from tests.plain_http import PLAIN_HTTP
from tests.processes.api_service import api_responds, detection, post
from tests.processes.roles import running_role, wait_until
from tests.processes.test_request_smuggling import CHUNK, HEAD, HIDDEN, LAST, LENGTH, connected, message
from tests.tcp_ports import free_port

pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)

IDLE_SECONDS = 0.1
"""Seconds of silence after which the client has sent everything and closes its side."""

CLOSE_SECONDS = 10.0
"""Seconds within which the server closes its side, too."""

EXPECTED_ERRORS = {503, 504}
"""Documented answers: a store is unavailable or still loading, or a read model is not at a position yet."""

WEBSOCKET = (
    b"GET /ws/patterns HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

FRAMES = b"\x81\x85\0\0\0\0hello\x89\x80\0\0\0\0\x88\x82\0\0\0\0\x03\xe8"
"""A masked text, a ping and a close of a WebSocket client."""

REQUESTS = [
    HEAD + b"Content-Length: %d\r\n\r\n" % len(message("a")) + message("a"),
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK,
    HEAD + b"Expect: 100-continue\r\n" + LENGTH + b"\r\n" + HIDDEN,
    b"GET /api/patterns/scan?sort_by=symbol&confidence_min=0.5&per_page=3 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /api/read-models/patterns?symbol=AAPL&cursor=WyJBIl0 HTTP/1.1\r\nHost: localhost\r\nAccept: text/csv\r\n\r\n",
    b"HEAD /api/health HTTP/1.1\r\nHost: localhost\r\nTickView-Min-Position: market-0=1\r\n\r\n",
    HEAD.replace(b"events", b"users/watchlists") + b'Content-Length: 31\r\n\r\n{"name":"T","symbols":["AAPL"]}',
    WEBSOCKET + FRAMES,
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
]

TARGETS = [
    *("/api/patterns/scan", "/api/patterns/stats", "/api/patterns/summary", "/api/patterns/A:Doji:daily:1"),
    *("/api/backtests", "/api/symbols", "/api/symbols/AAPL", "/api/users/universe", "/api/users/watchlists"),
    *("/api/audit/events", "/api/audit/streams/user-alice", "/api/dead-letters", "/api/projections", "/api/health"),
    *("/api/read-models/patterns", "/api/read-models/patterns/counts/symbol", "/api/dashboard/stats", "/metrics"),
]

NAMES = [
    "cursor",
    "page",
    "per_page",
    "sort_by",
    "symbols",
    "rsi_range",
    "as_of",
    "watchlist",
    "fields",
    "from",
    "limit",
]

HEADERS = ["Host", "Origin", "If-Match", "If-None-Match", "Accept", "TickView-Min-Position", "X-User-ID", "Forwarded"]

texts = st.binary(max_size=40) | st.sampled_from(INTERESTING) | st.text(max_size=20).map(str.encode)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Draw a request in correct framing with hostile values."""
    method = draw(
        st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "M-SEARCH"])
    )
    path = draw(st.sampled_from(TARGETS)) + draw(st.just("") | texts.map(lambda text: "/" + quote_from_bytes(text)))
    query = draw(st.lists(st.tuples(st.sampled_from(NAMES), texts.map(quote_from_bytes)), max_size=3))
    target = path + ("?" + "&".join(f"{name}={value}" for name, value in query) if query else "")
    headers = draw(st.lists(st.tuples(st.sampled_from(HEADERS), texts), max_size=3))
    lines = [f"{name}: ".encode() + value.translate(None, b"\r\n\0") for name, value in headers]
    body = draw(st.just(b"") | mutated([message("a"), b'{"name":"T","symbols":[]}']))
    lines += [b"Host: localhost", b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    return f"{method} {target} HTTP/1.1\r\n".encode() + b"\r\n".join(lines) + b"\r\n\r\n" + body


class Service(NamedTuple):
    """The API under attack, with one process that answers."""

    client: httpx.Client
    process: psutil.Process
    log: Path

    def processes(self) -> set[int]:
        found = {self.process.pid, *(child.pid for child in self.process.children(recursive=True))}
        assert len(found) > 1, "the API runs in a process of its own"
        return found


@pytest.fixture(scope="module")
def service(module_redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("fuzz") / "log"
    with ExitStack() as stack:
        stack.enter_context(running_role("project", redis_url=module_redis_url))
        file, port = stack.enter_context(log.open("wb")), free_port()
        arguments = ("serve", "--port", str(port))
        process = stack.enter_context(running_role(*arguments, redis_url=module_redis_url, log=file, api_processes=1))
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, verify=PLAIN_HTTP))
        wait_until(lambda: api_responds(client), "the API responds")
        client.get("/api/patterns/scan", headers=post(client, [detection("AAPL")]))
        yield Service(client, psutil.Process(process.pid), log)


def converse(client: httpx.Client, parts: list[bytes]) -> bytes:
    """Send parts on one connection, and return all that the server sends until it closes the connection."""
    received = b""
    with connected(client) as connection:
        connection.settimeout(IDLE_SECONDS)
        try:
            for part in parts:
                connection.sendall(part)
            while data := connection.recv(65_536):
                received += data
        except TimeoutError:  # The server waits for more.
            connection.settimeout(CLOSE_SECONDS)
            connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(65_536):
                received += data
        except ConnectionError:  # The server closed the connection before it had read everything.
            pass
    return received


def statuses(received: bytes) -> list[int]:
    """Return the statuses of the answers. Bodies of the service contain no status line."""
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


def test_any_bytes_get_answers_or_an_orderly_close(service: Service) -> None:
    before, log = service.processes(), service.log.open("rb")

    def attack(parts: list[bytes]) -> None:
        received = converse(service.client, [*parts, LAST])
        unexpected = [status for status in statuses(received) if status >= 500 and status not in EXPECTED_ERRORS]
        assert not unexpected, received
        assert received.startswith(b"HTTP/1.1 ") or not received
        tracebacks = [line.decode().replace("\\n", "\n") for line in log if b"Traceback" in line]
        assert not tracebacks, "\n".join(tracebacks)

    with log:
        fuzz(attack, st.lists(mutated(REQUESTS) | requests() | st.binary(), min_size=1, max_size=3))
    assert service.client.get("/api/health/live").status_code == 200
    assert service.processes() == before


def test_a_valid_request_between_hostile_connections_is_answered_in_time(service: Service) -> None:
    def attack(data: bytes) -> None:
        with connected(service.client) as connection:
            connection.sendall(data)
            began = time.monotonic()
            assert service.client.get("/api/patterns/scan").status_code == 200
            assert time.monotonic() - began < CLOSE_SECONDS

    fuzz(attack, mutated(REQUESTS) | st.binary())
