"""Limits of the web server on slow, oversized and malformed requests, over real sockets."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import httpx
import orjson
import psutil
import pytest
from falcon.asgi import Request, Response
from websockets.sync.client import connect

from infra.web_server.request_limits import HEAD_BYTES
from readapi.http.client_stream import find_socket_stream
from tests.integration.push_server import PushServer, detection_commit, receive, running_push_server
from tests.plain_http import PLAIN_HTTP
from tests.processes.roles import wait_until

UNFINISHED_HEAD = b"GET /api/patterns/stream HTTP/1.1\r\nhost: localhost\r\nx-more: "
POST_HEAD = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n"

LARGE_BODY = b"a" * 16_777_216
"""More than the kernel buffers for a client that does not read."""


class BodyResource:
    """A resource with a large response, and with a response that depends on the whole body of the request."""

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Respond with a large body."""
        resp.data = LARGE_BODY

    async def on_post(self, req: Request, resp: Response) -> None:
        """Respond with the length of the body and the value of the header ``X-Trailer``."""
        resp.media = [len(await req.stream.read()), req.get_header("X-Trailer")]


class LateResource:
    """A resource that responds after its client has left."""

    async def on_get(self, req: Request, resp: Response) -> None:
        """Wait until the connection is closed, and respond."""
        stream: Any = find_socket_stream(req)
        while not stream.transport.is_closing():
            await asyncio.sleep(0.01)
        resp.media = "nobody reads this"


POSITIONS = count(1)
"""Positions of the commits: the tests share a server, which expects each commit to follow the one before."""


@pytest.fixture(scope="module")
def server() -> Iterator[PushServer]:
    with running_push_server() as server:
        server.app.add_route("/body", BodyResource())
        server.app.add_route("/late", LateResource())
        yield server


@pytest.fixture
def short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of 0.3 seconds, which a test can wait for."""
    monkeypatch.setattr("infra.web_server.request_limits.UNREAD_SECONDS", 0.3)
    monkeypatch.setattr("infra.web_server.request_limits.HEAD_SECONDS", 0.3)
    monkeypatch.setattr("infra.web_server.request_limits.BODY_SECONDS", 0.3)


@contextmanager
def open_connection(server: PushServer) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        yield connection


def read_to_end(connection: socket.socket) -> bytes:
    """Receive bytes until the server closes the connection."""
    response = b""
    try:
        while chunk := connection.recv(65_536):
            response += chunk
    except ConnectionResetError:
        pass
    return response


def parse_refusal(response: bytes) -> tuple[int, str]:
    """Return the status and the type of a problem response."""
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    problem = orjson.loads(body)
    status = int(head.split()[1])
    assert problem["status"] == status
    return status, problem["type"].rpartition(":")[2]


def send_nothing(_connection: socket.socket) -> None:
    """Only connect."""


def send_half_a_head(connection: socket.socket) -> None:
    connection.sendall(UNFINISHED_HEAD)


def send_second_head_slowly(connection: socket.socket) -> None:
    """Send one request and then half of a second head. The deadline applies to every request of a connection."""
    connection.sendall(b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n")
    while b"}" not in connection.recv(65_536):
        pass
    connection.sendall(UNFINISHED_HEAD)


def trickle_a_head(connection: socket.socket) -> None:
    """Send an endless head byte by byte. Received bytes do not extend the deadline."""
    connection.sendall(UNFINISHED_HEAD)
    try:
        while True:
            connection.sendall(b"a")
            connection.settimeout(0.02)
            try:
                if connection.recv(1, socket.MSG_PEEK):
                    return
            except TimeoutError:
                pass
    finally:
        connection.settimeout(20)


def send_empty_lines(connection: socket.socket) -> None:
    """Send one request and then an empty line, which begins no request but resets the keep-alive timeout."""
    connection.sendall(b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n")
    while b"}" not in connection.recv(65_536):
        pass
    connection.sendall(b"\r\n")


@pytest.mark.usefixtures("short_deadlines")
@pytest.mark.parametrize(
    "client", [send_nothing, send_half_a_head, send_second_head_slowly, trickle_a_head, send_empty_lines]
)
def test_an_incomplete_head_is_refused_after_the_deadline(
    server: PushServer, client: Callable[[socket.socket], None]
) -> None:
    with open_connection(server) as connection:
        client(connection)
        assert parse_refusal(read_to_end(connection)) == (408, "too-slow")


@pytest.mark.usefixtures("short_deadlines")
def test_an_incomplete_body_is_refused_after_the_deadline(server: PushServer) -> None:
    with open_connection(server) as connection:
        connection.sendall(POST_HEAD % b"/body" + b"half")
        assert parse_refusal(read_to_end(connection)) == (408, "too-slow")


@pytest.mark.usefixtures("short_deadlines")
def test_an_incomplete_unread_body_ends_the_connection_after_the_response(server: PushServer) -> None:
    with open_connection(server) as connection:
        connection.sendall(POST_HEAD % b"/api/patterns/stream" + b"half")
        response = read_to_end(connection)
    # The refusal of POST does not need the body. The connection ends at the deadline for the body.
    assert response.startswith(b"HTTP/1.1 405")


@pytest.mark.usefixtures("short_deadlines")
def test_a_slow_second_request_does_not_corrupt_a_response_in_progress(server: PushServer) -> None:
    with open_connection(server) as connection:
        connection.sendall(b"GET /api/patterns/stream HTTP/1.1\r\nhost: localhost\r\n\r\n" + POST_HEAD % b"/body")
        response = read_to_end(connection)
    assert b"event: ready" in response
    assert response.count(b"HTTP/1.1") == 1


@pytest.mark.usefixtures("short_deadlines")
@pytest.mark.parametrize("header", [b"", b"connection: close\r\n"], ids=["keep-alive", "close"])
def test_a_response_that_the_client_does_not_read_is_aborted_after_the_deadline(
    server: PushServer, header: bytes
) -> None:
    with open_connection(server) as connection:
        connection.sendall(b"GET /body HTTP/1.1\r\nhost: localhost\r\n" + header + b"\r\n")
        wait_until(lambda: sockets_of(server, connection), "the server has accepted the connection")
        wait_until(lambda: not sockets_of(server, connection), "the server has closed the connection")
        assert len(read_to_end(connection)) < len(LARGE_BODY)


def sockets_of(server: PushServer, connection: socket.socket) -> list[Any]:
    """Return the sockets of a connection that the server holds. The server runs in this process."""
    client = connection.getsockname()
    return [
        entry
        for entry in psutil.Process().net_connections("tcp")
        if (entry.laddr[1], entry.raddr) == (server.port, client)
    ]


@pytest.mark.usefixtures("short_deadlines")
def test_complete_requests_stay_open_while_a_slow_one_is_refused(server: PushServer) -> None:
    with (
        server.websocket("/ws") as websocket,
        server.event_stream() as events,
        open_connection(server) as connection,
    ):
        receive(websocket)
        next(events)
        assert parse_refusal(read_to_end(connection)) == (408, "too-slow")
        _, commit = detection_commit(next(POSITIONS))
        server.deliver(commit)
        assert receive(websocket)["type"] == "changes"
        assert next(events)["type"] == "changes"


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_head_over_the_limit_is_refused(server: PushServer, pieces: int) -> None:
    head = UNFINISHED_HEAD + b"a" * HEAD_BYTES + b"\r\n\r\n"
    size = -(-len(head) // pieces)
    with open_connection(server) as connection:
        for start in range(0, len(head), size):
            try:
                connection.sendall(head[start : start + size])
            except (BrokenPipeError, ConnectionResetError):
                break
        assert parse_refusal(read_to_end(connection)) == (431, "head-too-large")


def send_forever(connection: socket.socket, line: bytes) -> None:
    while True:
        connection.sendall(line)


def test_an_endless_head_is_not_buffered(server: PushServer) -> None:
    with open_connection(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_forever(connection, b"x-a: " + b"b" * 1_000 + b"\r\n")
        response = read_to_end(connection)
    assert not response or parse_refusal(response) == (431, "head-too-large")


CHUNKED = b"POST /body HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize("line", [b"x-a: " + b"b" * 1_000 + b"\r\n", b"b" * 1_000], ids=["many-lines", "one-long-line"])
@pytest.mark.parametrize("before", [b"0\r\nx-c: ", b"1\r\na\r\n1;"], ids=["trailer", "chunk-extension"])
def test_endless_chunk_extensions_and_trailers_are_not_buffered(server: PushServer, before: bytes, line: bytes) -> None:
    with open_connection(server) as connection:
        connection.sendall(CHUNKED + before)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_forever(connection, line)


def test_a_body_of_many_small_chunks_is_accepted(server: PushServer) -> None:
    with open_connection(server) as connection:
        connection.sendall(CHUNKED)
        for _ in range(10):
            connection.sendall(b"1\r\na\r\n" * 10_000)
        connection.sendall(b"0\r\n\r\n")
        assert read_to_end(connection).endswith(b"[100000, null]")


def test_a_trailer_does_not_become_a_header(server: PushServer) -> None:
    with open_connection(server) as connection:
        connection.sendall(CHUNKED + b"1\r\na\r\n0\r\nx-trailer: yes\r\n\r\n")
        assert read_to_end(connection).endswith(b"[1, null]")


def test_long_headers_within_the_limit_are_accepted(server: PushServer) -> None:
    url = f"http://127.0.0.1:{server.port}/nothing"
    headers = {"Authorization": "Bearer " + "a" * 8_000, "X-More": "b" * 20_000}
    assert httpx.get(url, headers=headers, verify=PLAIN_HTTP).status_code == 404
    # A large body in the same packet does not count as part of the head.
    assert httpx.post(url, content=b"c" * 100_000, verify=PLAIN_HTTP).status_code == 404


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx : a\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: a\rb: c\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /nothing\r\n\r\n",
        b"GET /nothing HTTP/1.1\r\n\r\n",
        b"GET /nothing HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n",
    ],
)
def test_malformed_and_ambiguous_requests_are_refused(server: PushServer, data: bytes) -> None:
    with open_connection(server) as connection:
        connection.sendall(data)
        assert parse_refusal(read_to_end(connection)) == (400, "not-http")


def test_a_message_of_a_websocket_client_is_ignored(server: PushServer) -> None:
    url = f"ws://127.0.0.1:{server.port}/ws"
    with connect(url, compression=None) as websocket:
        message: Any = receive(websocket)
        websocket.send("[" * 10_000)
        _, commit = detection_commit(next(POSITIONS))
        server.deliver(commit)
        message = receive(websocket)
        assert message["type"] == "changes"


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n%b\r\n"
)


@pytest.mark.parametrize(
    "header",
    [b"x-a: b\r\n" * 200, b"x-a: " + b"b" * 9_000 + b"\r\n", b"content-length: 5\r\n"],
    ids=["many-headers", "long-header", "body"],
)
def test_an_invalid_handshake_is_refused_and_the_connection_closed(server: PushServer, header: bytes) -> None:
    with open_connection(server) as connection:
        connection.sendall(HANDSHAKE % header)
        assert parse_refusal(read_to_end(connection)) == (400, "no-handshake")


PING = b"\x89\xfd\x00\x00\x00\x00" + b"p" * 125


def test_pongs_to_a_client_that_does_not_read_are_bounded(server: PushServer) -> None:
    with open_connection(server) as connection:
        connection.sendall(HANDSHAKE % b"")
        while b"ready" not in connection.recv(65_536):
            pass
        for _ in range(1_000):
            connection.sendall(PING * 100)
        received = 0
        connection.sendall(b"\x88\x82\x00\x00\x00\x00\x03\xe8")
        while chunk := connection.recv(1_048_576):
            received += len(chunk)
    # A pong has 127 bytes. The kernel buffers a part of the pongs to the 100,000 pings.
    assert received < 100_000 * 127


def test_a_response_to_a_client_that_left_a_websocket_is_no_failure(
    server: PushServer, caplog: pytest.LogCaptureFixture
) -> None:
    # uvicorn hands the connection over to the WebSocket although the request before it is still running.
    upgrade = b"GET /ws/patterns HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    upgrade += b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    with open_connection(server) as connection:
        connection.sendall(b"GET /late HTTP/1.1\r\nhost: localhost\r\n\r\n" + upgrade)
        assert b"101" in connection.recv(65_536)
    for _ in range(3):
        httpx.get(f"http://127.0.0.1:{server.port}/body", verify=PLAIN_HTTP)
    assert not [record for record in caplog.records if record.name == "uvicorn.error"]
