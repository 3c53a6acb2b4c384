"""Requests whose end servers may see in different places: no part of a body is carried out as a request."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
from redis import Redis

from infra.redis.connections import connect
from tests.events import NOON
from tests.processes.api_service import api, detection
from tests.processes.test_recorder import recorded_ids

HEAD = b"POST /api/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

LAST = b"GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
"""The last request of each connection, which is answered with 404."""


def message(name: str) -> bytes:
    """Return the body of a POST of one event with this id."""
    return orjson.dumps({**detection("AAPL", timestamp=NOON, expires_at=NOON + 3_600), "event_id": name})


HIDDEN = HEAD + b"Content-Length: %d\r\n\r\n" % len(message("hidden")) + message("hidden")
"""A valid request in the body of another request."""

LENGTH = b"Content-Length: %d\r\n" % len(HIDDEN)

CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)


@pytest.fixture(scope="module")
def client(module_redis_url: str) -> Iterator[httpx.Client]:
    with api(module_redis_url, api_processes=1) as client:
        yield client


@pytest.fixture
def log(module_redis_url: str) -> Iterator[Redis]:
    """Client of the server of the API, whose market log is empty."""
    with connect(module_redis_url) as redis:
        redis.flushall()
        yield redis


@contextmanager
def connected(client: httpx.Client) -> Iterator[socket.socket]:
    address = urlsplit(str(client.base_url))
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        yield connection


def read_statuses(connection: socket.socket) -> list[int]:
    """Return the statuses of all responses until the server closes the connection."""
    received = b""
    while data := connection.recv(65_536):
        received += data
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


def exchange(client: httpx.Client, data: bytes) -> list[int]:
    """Send data and the last request on one connection. Return the statuses of all responses."""
    with connected(client) as connection:
        connection.sendall(data + LAST)
        return read_statuses(connection)


UPGRADES = [b"h2c", b"h2c, websocket", b"TLS/1.0", b"IRC/6.9", b"\xff"]


@pytest.mark.parametrize("protocol", UPGRADES, ids=repr)
@pytest.mark.parametrize(
    "framing",
    [LENGTH + b"\r\n" + HIDDEN, b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK],
    ids=["with a length", "chunked"],
)
def test_the_body_of_a_request_with_an_upgrade_is_no_request(
    client: httpx.Client, log: Redis, protocol: bytes, framing: bytes
) -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nUpgrade: %b\r\n" % protocol
    assert exchange(client, HEAD + upgrade + framing) == [400, 404]
    assert recorded_ids(log) == []


@pytest.mark.parametrize("protocol", UPGRADES, ids=repr)
def test_a_request_with_an_ignored_upgrade_is_carried_out(client: httpx.Client, log: Redis, protocol: bytes) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: %b\r\n" % protocol
    with connected(client) as connection:
        for number in range(2):
            body = message(f"event-{number}")
            connection.sendall(HEAD + upgrade + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"  # the server has read the head
            connection.sendall(body)
            response = HTTPResponse(connection)
            response.begin()
            assert (response.status, len(orjson.loads(response.read())["events"])) == (201, 1)
        connection.sendall(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n" + upgrade + b"\r\n" + LAST)
        assert read_statuses(connection) == [404, 404]
    assert recorded_ids(log) == ["event-0", "event-1"]


def test_many_pipelined_upgrades_are_ignored(client: httpx.Client) -> None:
    request = b"GET /none HTTP/1.1\r\nHost:a\r\nConnection:Upgrade\r\nUpgrade:x\r\n\r\n"
    number = 32_000 // len(request)  # in one packet, below the limit of a head
    assert exchange(client, request * number) == [404] * (number + 1)


@pytest.mark.parametrize(
    "head",
    [
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n" + LENGTH,
        HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + LENGTH,
        HEAD + LENGTH + b"Transfer-Encoding: chunked\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n" + LENGTH,
        HEAD + LENGTH + b"Content-Length: 0\r\n",
        HEAD + b"Content-Length: 0\r\n" + LENGTH,
        HEAD + b"Content-Length: 0, %d\r\n" % len(HIDDEN),
        HEAD + b"Content-Length: +%d\r\n" % len(HIDDEN),
        HEAD + b"Content-Length : 0\r\n",
        HEAD + b"Content-Length: 0x%x\r\n" % len(HIDDEN),
        HEAD + b"Transfer-Encoding: chunked, identity\r\n",
        HEAD + b"Transfer-Encoding: xchunked\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        HEAD + b"Transfer-Encoding:\x0bchunked\r\n",
        HEAD + b"X: a\r\n Content-Length: %d\r\n" % len(HIDDEN),
        HEAD + b"X: a\rContent-Length: %d\r\n" % len(HIDDEN),
        HEAD + b"X: a\x00\r\n" + LENGTH,
        HEAD.replace(b"\r\n", b"\n") + LENGTH,
    ],
    ids=repr,
)
def test_a_request_with_an_ambiguous_body_ends_its_connection(client: httpx.Client, log: Redis, head: bytes) -> None:
    assert exchange(client, head + b"\r\n" + HIDDEN) == [400]
    assert recorded_ids(log) == []


@pytest.mark.parametrize(
    "chunk",
    [
        b"+1\r\na\r\n0\r\n\r\n" + HIDDEN,
        b"0x1\r\na\r\n0\r\n\r\n" + HIDDEN,
        b"1\na\n0\n\n" + HIDDEN,
        b"1;a\nb\r\na\r\n0\r\n\r\n" + HIDDEN,
        b"1\r\nab\r\n0\r\n\r\n" + HIDDEN,
        b"fffffffffffffffff\r\na\r\n0\r\n\r\n" + HIDDEN,
    ],
    ids=lambda chunk: repr(chunk[:16]),
)
def test_an_invalid_chunk_ends_its_connection(client: httpx.Client, log: Redis, chunk: bytes) -> None:
    statuses = exchange(client, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
    assert statuses in ([400], [])
    assert recorded_ids(log) == []


def test_pipelined_requests_are_answered_one_after_the_other(client: httpx.Client, log: Redis) -> None:
    requests = b""
    for number in range(3):
        body = message(f"event-{number}")
        requests += HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
        requests += b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
    assert exchange(client, requests) == [201, 404, 201, 404, 201, 404, 404]
    assert recorded_ids(log) == ["event-0", "event-1", "event-2"]
