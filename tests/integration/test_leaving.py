"""Answers of every kind as a client receives them: whole, in order, no head without the body that it announces."""

import socket
import struct
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import pytest
from falcon.asgi import Request, Response

from infra.streams import SEND_BUFFER_BYTES
from tests.integration.push_server import Server, serving

GET = b"GET /%b HTTP/1.1\r\nhost: localhost\r\n\r\n"
LARGE = 8 * SEND_BUFFER_BYTES


async def letters() -> AsyncIterator[bytes]:
    for letter in b"abc":
        yield bytes([letter])


class Kinds:
    """Answers with a body of each kind."""

    async def on_get(self, _req: Request, resp: Response, kind: str) -> None:
        """The kind that is asked for."""
        match kind:
            case "empty":
                resp.data = b""
            case "none":
                resp.status = 204
            case "same":
                resp.status = 304
                resp.set_header("ETag", '"1"')
            case "streamed":
                resp.stream = letters()
            case "announced":
                resp.stream = letters()
                resp.content_length = 3
            case _:
                resp.data = b"x" * int(kind)

    async def on_head(self, req: Request, resp: Response, kind: str) -> None:
        """Its head alone."""
        await self.on_get(req, resp, kind)

    async def on_post(self, req: Request, resp: Response, kind: str) -> None:
        """What was sent."""
        resp.data = kind.encode() + await req.stream.read()


class Broken:
    """Announces more than it has."""

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Two of three bytes, then an error."""

        async def two() -> AsyncIterator[bytes]:
            yield b"ab"
            raise OSError("the source is gone")

        resp.stream = two()
        resp.content_length = 3


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        server.app.add_route("/kinds/{kind}", Kinds())
        server.app.add_route("/broken", Broken())
        yield server


@contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        yield connection


def segments_with_data(connection: socket.socket) -> int:
    """How many have come: ``tcpi_data_segs_in`` of Linux's ``struct tcp_info``, 152 bytes from its beginning."""
    found: int = struct.unpack_from("I", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 152)[0]
    return found


def received(connection: socket.socket, *, end: bytes) -> bytes:
    told = b""
    while not told.endswith(end):
        chunk = connection.recv(65_536)
        assert chunk, f"the connection ended after {told!r}"
        told += chunk
    return told


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell how many segments came")
def test_head_and_body_arrive_together(server: Server) -> None:
    """In one segment, by which a client that waits is woken up once."""
    with connected(server) as connection:
        for answers in range(1, 4):
            connection.sendall(GET % b"kinds/4500")
            received(connection, end=b"\r\n\r\n" + b"x" * 4_500)
            assert segments_with_data(connection) == answers


@pytest.mark.parametrize(
    ("kind", "status", "body"),
    [
        ("empty", 200, b""),
        ("none", 204, b""),
        ("same", 304, b""),
        ("streamed", 200, b"abc"),
        ("announced", 200, b"abc"),
        ("5", 200, b"xxxxx"),
        (str(LARGE), 200, b"x" * LARGE),
    ],
)
def test_every_kind_of_answer(server: Server, kind: str, status: int, body: bytes) -> None:
    """One after the other on one connection, so that nothing of one is left for the next."""
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        for _ in range(2):
            answer = client.get(f"/kinds/{kind}")
            assert (answer.status_code, answer.content) == (status, body)
            head = client.head(f"/kinds/{kind}")
            assert (head.status_code, head.content) == (status, b"")
            assert head.headers.get("content-length") == answer.headers.get("content-length")


def test_requests_that_do_not_wait_for_answers(server: Server) -> None:
    """They are answered in their order."""
    with connected(server) as connection:
        connection.sendall(b"".join(GET % b"kinds/%d" % size for size in (1, 0, 70_000, 2)) + GET % b"kinds/streamed")
        told = received(connection, end=b"0\r\n\r\n")
    assert [len(part.split(b"\r\n\r\n", 1)[1]) for part in told.split(b"HTTP/1.1 200 OK")[1:5]] == [1, 0, 70_000, 2]


def test_100_continue(server: Server) -> None:
    """It goes out at once, long before there is a head."""
    with connected(server) as connection:
        connection.sendall(b"POST /kinds/you+said+ HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n")
        connection.sendall(b"content-length: 2\r\n\r\n")
        assert connection.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"ab")
        assert received(connection, end=b"ab").startswith(b"HTTP/1.1 200 OK")


def test_http_1_0(server: Server) -> None:
    """The connection is closed behind the answer."""
    with connected(server) as connection:
        connection.sendall(b"GET /kinds/3 HTTP/1.0\r\n\r\n")
        received(connection, end=b"\r\n\r\nxxx")
        assert connection.recv(1) == b""


def test_an_answer_that_breaks_off(server: Server) -> None:
    """What there was of it is sent, and the connection closed, so that nobody takes it for the whole."""
    with connected(server) as connection:
        connection.sendall(GET % b"broken")
        told = received(connection, end=b"ab")
        assert b"content-length: 3" in told
        assert connection.recv(1) == b""
