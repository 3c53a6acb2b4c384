"""Immediate answers: equal to the answers through Falcon, and sent in the same way over the same connections."""

import asyncio
import socket
from collections.abc import Sequence
from math import inf
from typing import Any, NamedTuple

import orjson
import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from uvicorn.server import ServerState

from infra.web_server.uvicorn import HttpStream, WebSocketStream
from projections.base import encode_row
from projections.patterns import ActivePatterns
from projections.workspaces import Workspaces
from readapi.access.guard import Guard
from readapi.access.immediate_routes import immediate_routes
from readapi.access.origins import CrossOrigin
from readapi.access.rate_limits import RateLimits
from readapi.http.identities import Identity
from readapi.http.mounting import DocumentedApplication
from readapi.http.problems import handle_errors
from readapi.http.read_model import ReadModel
from readapi.http.request_metrics import RequestMetrics
from readapi.patterns.list_filters import CallerWorkspace
from readapi.patterns.scan import ScanResource
from readapi.read_models.as_of import RowHistory
from readapi.replica.replica import Replica
from tests.catalogue import CatalogueFixture
from tests.pattern_queries import NOW, log_of_pattern, many_rows
from tests.unit.test_answer_cache import LiveReplica, StoredWorkspaces


class Tokens:
    """An authenticator that knows one token."""

    def identify(self, token: str) -> Identity | None:
        return Identity("alice", frozenset(("read",))) if token == "good" else None  # noqa: S105 a token of this test


class Service(DocumentedApplication):
    """The scan with guard and metrics. It counts the requests that reach Falcon."""

    def __init__(self, guard: Guard, *, is_immediate: bool) -> None:
        super().__init__()
        self.calls = 0
        self.metrics = RequestMetrics(CollectorRegistry())
        self.replica = Replica(ActivePatterns())
        for key, row in many_rows(60).items():
            self.replica.put(log_of_pattern(key), [(key, encode_row(row, 1))])
        served = LiveReplica(self.replica)
        lists = CallerWorkspace(ReadModel(Workspaces(), StoredWorkspaces(), 0))
        patterns = ReadModel(ActivePatterns(), served, 0, served)
        history = RowHistory("pattern_history", None, 0, lambda: inf)
        scan = ScanResource(patterns, history, CatalogueFixture().catalogue, lists, lambda: NOW, {})
        self.add_middleware(self.metrics)
        self.add_middleware(guard)
        if guard.origins:
            self.add_middleware(CrossOrigin(guard.origins))
        handle_errors(self, (), lambda _: None)
        self.add_route("/scan", scan)
        if is_immediate:
            self.answer_immediately = immediate_routes({"/scan": scan}, guard, self.metrics)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        await super().__call__(scope, receive, send)


class Received(NamedTuple):
    status: int
    headers: dict[str, str]
    content: Any


def exchange(service: Service, data: bytes, answers: int = 1) -> list[Received]:
    """Send data over one connection, and return the answers."""

    async def run() -> bytes:
        options: Any = {"http": HttpStream, "ws": WebSocketStream, "lifespan": "off", "log_config": None}
        config = uvicorn.Config(service, proxy_headers=False, **options)
        config.load()
        server_end, client_end = socket.socketpair()
        client_end.setblocking(False)
        loop = asyncio.get_running_loop()

        def connection() -> HttpStream:
            stream = HttpStream(config, ServerState(), {})
            connection_made = stream.connection_made

            def with_client(transport: Any) -> None:
                connection_made(transport)
                stream.client = ("127.0.0.1", 5_000)

            stream.connection_made = with_client  # type: ignore[method-assign]
            return stream

        transport, _ = await loop.connect_accepted_socket(connection, server_end)
        with client_end:
            client_end.sendall(data)
            received = b""
            async with asyncio.timeout(10):
                while len(parse(received)) < answers and (part := await loop.sock_recv(client_end, 65_536)):
                    received += part
            transport.abort()
        return received

    return parse(asyncio.run(run()))


def parse(data: bytes) -> list[Received]:
    """Return the complete answers in the data."""
    answers = []
    while (end := data.find(b"\r\n\r\n")) >= 0:
        first, *lines = data[:end].decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        status, length = int(first.split(" ")[1]), int(headers.get("content-length", "0"))
        body, data = data[end + 4 : end + 4 + length], data[end + 4 + length :]
        if len(body) < length:
            break
        content = orjson.loads(body) if body else None
        if content and "performance" in content:
            assert content.pop("performance")["source"] == "replica"
            # The number of digits of the response time differs.
            del headers["content-length"]
        answers.append(Received(status, headers, content))
    return answers


def get(path: str, *headers: str, method: str = "GET", host: str = "localhost") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"host: {host}", *headers, "", ""]).encode()


def compare(data: bytes, make_guard: Any = Guard, answers: int = 1) -> tuple[list[Received], int]:
    """Return the answers, and the number of requests that reached Falcon, after a comparison with Falcon's answers."""
    immediate, usual = Service(make_guard(), is_immediate=True), Service(make_guard(), is_immediate=False)
    expected = exchange(usual, data, answers)
    assert exchange(immediate, data, answers) == expected
    assert usual.calls == answers
    for service in (immediate, usual):
        assert sum(map(len, service.metrics.recent_seconds.values())) == sum(each.status < 400 for each in expected)
    return expected, immediate.calls


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/scan", 200),
        ("/scan?confidence_min=0&per_page=5&sort_by=symbol&sort_order=asc&page=2", 200),
        ("/scan?symbols=AAPL,BRK&fields=full", 200),
        ("/scan?symbols=APPL", 200),
        ("/scan?timeframe=daily&rsi_range=10,90&vol_min=0.1", 200),
        ("/scan?confidence_min=high", 400),
        ("/scan?unknown=1&per_page=101", 400),
        ("/scan?cursor=wrong", 400),
    ],
)
def test_an_immediate_answer_equals_the_answer_through_falcon(path: str, status: int) -> None:
    [received], falcon_calls = compare(get(path))
    assert (received.status, falcon_calls) == (status, 0)


def test_an_immediate_answer_validates_an_entity_tag() -> None:
    [found], _ = compare(get("/scan"))
    [known], falcon_calls = compare(get("/scan", f"if-none-match: {found.headers['etag']}"))
    assert (known.status, known.content, falcon_calls) == (304, None, 0)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get("/scan?as_of=1"), 503),
        (get("/scan?preset=" + "0" * 32), 400),
        (get("/scan?universe=u"), 400),
        (get("/scan", "tickview-min-position: market-0=1"), 200),
        (get("/scan", "content-length: 2") + b"{}", 200),
        (get("/other"), 404),
        (get("/scan", "content-length: 0", method="POST"), 405),
    ],
)
def test_a_request_that_may_have_to_wait_goes_through_falcon(data: bytes, status: int) -> None:
    [received], falcon_calls = compare(data)
    assert (received.status, falcon_calls) == (status, 1)


def test_the_guard_applies_to_an_immediate_answer() -> None:
    [refused], falcon_calls = compare(get("/scan", host="example.com"))
    assert (refused.status, falcon_calls) == (403, 0)
    with_tokens = lambda: Guard(Tokens(), rates=RateLimits(1, 2))  # noqa: E731 a new guard for each service
    with_token = get("/scan", "authorization: Bearer good")
    received, falcon_calls = compare(get("/scan") + with_token * 3, with_tokens, answers=4)
    assert [each.status for each in received] == [401, 200, 200, 429]
    assert falcon_calls == 0


def test_a_request_of_a_page_of_another_site_goes_through_falcon() -> None:
    with_origin = lambda: Guard(origins=["https://ui.example"])  # noqa: E731 a new guard for each service
    [own], falcon_calls = compare(get("/scan"), with_origin)
    assert (own.headers["vary"], falcon_calls) == ("origin", 0)
    [foreign], falcon_calls = compare(get("/scan", "origin: https://ui.example"), with_origin)
    assert (foreign.headers["access-control-allow-origin"], falcon_calls) == ("https://ui.example", 1)


def test_pipelined_requests_are_answered_in_their_order() -> None:
    paths: Sequence[str] = [f"/scan?per_page={size}" for size in range(1, 6)]
    data = b"".join(map(get, paths)) + get("/scan?per_page=6", "content-length: 0") + get("/scan?per_page=7")
    received, falcon_calls = compare(data, answers=7)
    assert [each.content["pagination"]["per_page"] for each in received] == [1, 2, 3, 4, 5, 6, 7]
    assert falcon_calls == 1


@pytest.mark.parametrize("data", [get("/scan", "connection: close"), b"GET /scan HTTP/1.0\r\nhost: localhost\r\n\r\n"])
def test_an_immediate_answer_closes_the_connection_that_the_client_does_not_keep(data: bytes) -> None:
    # With another answer expected, the data ends only where the server closes the connection.
    service = Service(Guard(), is_immediate=True)
    [received] = exchange(service, data, answers=2)
    assert (received.headers["connection"], service.calls) == ("close", 0)


def test_an_unexpected_error_is_answered_with_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("readapi.replica.replica.find_matches", None)
    service = Service(Guard(), is_immediate=True)
    [received] = exchange(service, get("/scan"))
    assert (received.status, received.content["detail"]) == (500, "the service failed; its log has the reason")
    assert service.calls == 0
