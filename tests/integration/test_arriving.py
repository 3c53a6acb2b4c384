"""Clients that are slow to say what they want, or say too much: answered, hung up on, and nobody else notices."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import orjson
import psutil
import pytest
from falcon.asgi import Request, Response
from websockets.sync.client import connect

from infra.web_server.request_limits import HEAD_BYTES
from tests.integration.push_server import Server, detection_commit, receive, serving
from tests.processes.roles import wait_until

SLOW = b"GET /api/patterns/stream HTTP/1.1\r\nhost: localhost\r\nx-more: "
POST = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n"


LARGE = b"a" * 16_777_216


class Reading:
    """Waits for the whole body."""

    async def on_get(self, _req: Request, resp: Response) -> None:
        """More than the kernel takes for a client that does not read."""
        resp.data = LARGE

    async def on_post(self, req: Request, resp: Response) -> None:
        """How much it was, and what stood where a trailer would like to."""
        resp.media = [len(await req.stream.read()), req.get_header("X-Trailer")]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        server.app.add_route("/reading", Reading())
        yield server


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines that a test can wait for."""
    monkeypatch.setattr("infra.web_server.request_limits.UNREAD_SECONDS", 0.3)
    monkeypatch.setattr("infra.web_server.request_limits.HEAD_SECONDS", 0.3)
    monkeypatch.setattr("infra.web_server.request_limits.BODY_SECONDS", 0.3)


@contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        yield connection


def rest(connection: socket.socket) -> bytes:
    """What comes until the server hangs up."""
    told = b""
    try:
        while chunk := connection.recv(65_536):
            told += chunk
    except ConnectionResetError:
        pass
    return told


def refusal(told: bytes) -> tuple[int, str]:
    """Status and kind of the one answer that came."""
    head, _, body = told.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    problem = orjson.loads(body)
    status = int(head.split()[1])
    assert problem["status"] == status
    return status, problem["type"].rpartition(":")[2]


def nothing(_connection: socket.socket) -> None:
    """Who only connects."""


def half_a_head(connection: socket.socket) -> None:
    connection.sendall(SLOW)


def one_after_the_other(connection: socket.socket) -> None:
    """The second request of a connection is watched like the first."""
    connection.sendall(b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n")
    while b"}" not in connection.recv(65_536):
        pass
    connection.sendall(SLOW)


def a_trickle(connection: socket.socket) -> None:
    """Bytes that keep coming do not put the deadline off."""
    connection.sendall(SLOW)
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


def empty_lines(connection: socket.socket) -> None:
    """Of which none begins a request, and which put off that the connection has rested for long enough."""
    connection.sendall(b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n")
    while b"}" not in connection.recv(65_536):
        pass
    connection.sendall(b"\r\n")


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("client", [nothing, half_a_head, one_after_the_other, a_trickle, empty_lines])
def test_a_head_that_does_not_arrive(server: Server, client: Callable[[socket.socket], None]) -> None:
    with connected(server) as connection:
        client(connection)
        assert refusal(rest(connection)) == (408, "too-slow")


@pytest.mark.usefixtures("short")
def test_a_body_that_does_not_arrive(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(POST % b"/reading" + b"half")
        assert refusal(rest(connection)) == (408, "too-slow")


@pytest.mark.usefixtures("short")
def test_a_body_that_nobody_reads_and_that_does_not_arrive(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(POST % b"/api/patterns/stream" + b"half")
        told = rest(connection)
    # There is no POST here, which can be said before the body has come; then the connection ends.
    assert told.startswith(b"HTTP/1.1 405")


@pytest.mark.usefixtures("short")
def test_who_is_slow_behind_an_answer_is_not_answered_into_it(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET /api/patterns/stream HTTP/1.1\r\nhost: localhost\r\n\r\n" + POST % b"/reading")
        told = rest(connection)
    assert b"event: ready" in told
    assert told.count(b"HTTP/1.1") == 1


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("more", [b"", b"connection: close\r\n"])
def test_an_answer_that_nobody_takes_does_not_wait_for_ever(server: Server, more: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET /reading HTTP/1.1\r\nhost: localhost\r\n" + more + b"\r\n")
        wait_until(lambda: not connections(server, connection), "the server has given up")
        assert len(rest(connection)) < len(LARGE)


def connections(server: Server, connection: socket.socket) -> list[Any]:
    """What the server, which runs in this process, has of a connection."""
    client = connection.getsockname()
    return [
        one for one in psutil.Process().net_connections("tcp") if (one.laddr[1], one.raddr) == (server.port, client)
    ]


@pytest.mark.usefixtures("short")
def test_who_has_asked_in_time_may_stay(server: Server) -> None:
    with (
        server.websocket("/ws") as websocket,
        server.events() as events,
        connected(server) as connection,
    ):
        receive(websocket)
        next(events)
        assert refusal(rest(connection)) == (408, "too-slow")
        _, commit = detection_commit(1)
        server.hear(commit)
        assert receive(websocket)["type"] == "changes"
        assert next(events)["type"] == "changes"


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_head_that_is_too_large(server: Server, pieces: int) -> None:
    head = SLOW + b"a" * HEAD_BYTES + b"\r\n\r\n"
    size = -(-len(head) // pieces)
    with connected(server) as connection:
        for start in range(0, len(head), size):
            try:
                connection.sendall(head[start : start + size])
            except (BrokenPipeError, ConnectionResetError):
                break
        assert refusal(rest(connection)) == (431, "head-too-large")


def send_for_ever(connection: socket.socket, line: bytes) -> None:
    while True:
        connection.sendall(line)


def test_a_head_without_end_is_not_gathered(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_for_ever(connection, b"x-a: " + b"b" * 1_000 + b"\r\n")
        told = rest(connection)
    assert not told or refusal(told) == (431, "head-too-large")


CHUNKED = b"POST /reading HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize("line", [b"x-a: " + b"b" * 1_000 + b"\r\n", b"b" * 1_000])
@pytest.mark.parametrize("before", [b"0\r\nx-c: ", b"1\r\na\r\n1;"])
def test_what_is_around_a_body_without_end_is_not_gathered(server: Server, before: bytes, line: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(CHUNKED + before)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_for_ever(connection, line)


def test_a_body_of_many_small_chunks_is_taken(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(CHUNKED)
        for _ in range(10):
            connection.sendall(b"1\r\na\r\n" * 10_000)
        connection.sendall(b"0\r\n\r\n")
        assert rest(connection).endswith(b"[100000, null]")


def test_what_comes_behind_the_body_is_no_header(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(CHUNKED + b"1\r\na\r\n0\r\nx-trailer: yes\r\n\r\n")
        assert rest(connection).endswith(b"[1, null]")


def test_a_head_that_is_large_enough_for_all_we_take(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}/nothing"
    assert httpx.get(url, headers={"Authorization": "Bearer " + "a" * 8_000, "X-More": "b" * 20_000}).status_code == 404
    # A large body in the same packet is no large head.
    assert httpx.post(url, content=b"c" * 100_000).status_code == 404


@pytest.mark.parametrize(
    "request_",
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
def test_what_is_no_request_or_could_be_two_is_refused(server: Server, request_: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(request_)
        assert refusal(rest(connection)) == (400, "not-http")


def test_a_websocket_that_sends_what_it_likes_is_ignored_up_to_a_bound(server: Server) -> None:
    url = f"ws://127.0.0.1:{server.port}/ws"
    with connect(url, compression=None) as websocket:
        message: Any = receive(websocket)
        websocket.send("[" * 10_000)
        _, commit = detection_commit(2)
        server.hear(commit)
        message = receive(websocket)
        assert message["type"] == "changes"


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n%b\r\n"
)


@pytest.mark.parametrize("more", [b"x-a: b\r\n" * 200, b"x-a: " + b"b" * 9_000 + b"\r\n", b"content-length: 5\r\n"])
def test_what_is_no_handshake_is_answered_and_hung_up_on(server: Server, more: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(HANDSHAKE % more)
        assert refusal(rest(connection)) == (400, "no-handshake")


PING = b"\x89\xfd\x00\x00\x00\x00" + b"p" * 125


def test_a_client_that_pings_and_takes_no_answer_is_not_answered_without_bound(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(HANDSHAKE % b"")
        while b"ready" not in connection.recv(65_536):
            pass
        for _ in range(1_000):
            connection.sendall(PING * 100)
        told = 0
        connection.sendall(b"\x88\x82\x00\x00\x00\x00\x03\xe8")
        while chunk := connection.recv(1_048_576):
            told += len(chunk)
    # Each of 100,000 pings has 127 bytes of an answer; the kernel takes some of these.
    assert told < 100_000 * 127
