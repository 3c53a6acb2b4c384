"""The bounds of live push over real sockets: bytes that wait for all clients, connections of a user, and filters."""

import socket
from contextlib import ExitStack, suppress

import httpx
import orjson
import pytest
from websockets.exceptions import InvalidStatus

from readapi.ports.commits import CommitId
from readapi.push.connections import PushBounds
from readapi.push.subscribers import MAX_UNSENT_BYTES, OVERLOADED
from tests.integration.push_server import PushServer, detection_commit, receive, running_push_server, symbols_in
from tests.plain_http import PLAIN_HTTP
from tests.processes.roles import wait_until

PADDING = "x" * 50_000
SLOW_CLIENTS = 8
MOST_UNSENT = 2_000_000


def unsent_bytes(server: PushServer) -> int:
    """Return the bytes that wait for all clients of a server."""
    return sum(connection.unsent_bytes for connection in server.server.server_state.connections)


def deliver(server: PushServer, position: int) -> None:
    """Deliver a large commit and wait until it is published."""
    server.deliver(detection_commit(position, extra={"padding": PADDING})[1])
    wait_until(
        lambda: server.hub.published["patterns"].last_commits["market-0"] == CommitId(position), "it is published"
    )


def open_slow_stream(server: PushServer, query: str) -> socket.socket:
    """Open a stream of server-sent events that nobody reads."""
    stream = socket.socket()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    stream.connect(("127.0.0.1", server.port))
    stream.sendall(f"GET /api/patterns/stream?{query} HTTP/1.1\r\nHost: tests\r\n\r\n".encode())
    return stream


def read_rest(stream: socket.socket) -> bytes:
    """Read all bytes of the server until the end of the connection."""
    body = b""
    stream.settimeout(20)
    with suppress(ConnectionResetError):
        while data := stream.recv(1_000_000):
            body += data
    return body


def test_the_clients_that_are_most_behind_are_dropped_if_too_much_waits_for_all_together() -> None:
    assert SLOW_CLIENTS * MAX_UNSENT_BYTES > 2 * MOST_UNSENT, "the bound of each client must not suffice"
    bounds = PushBounds(unsent_bytes=MOST_UNSENT)
    with running_push_server(bounds=bounds) as server, ExitStack() as stack:
        fast = stack.enter_context(server.websocket("/ws/patterns"))
        queries = [f"fields=full&confidence_min=0.{number}" for number in range(SLOW_CLIENTS)]
        for query in queries:
            stack.enter_context(open_slow_stream(server, query))
        wait_until(lambda: server.metric("connections", transport="sse") == SLOW_CLIENTS, "all streams are open")
        assert receive(fast)["type"] == "ready"
        position = 0
        while server.metric("dropped_total") < SLOW_CLIENTS // 2:
            position += 1
            assert position < 300
            server.deliver(detection_commit(position, extra={"padding": PADDING})[1])
            assert symbols_in(receive(fast)) == [f"S{position}"]
            wait_until(lambda: unsent_bytes(server) <= MOST_UNSENT, "the bytes that wait are bounded")
        assert position * len(PADDING) < MAX_UNSENT_BYTES, "no client alone was too slow"
        assert server.metric("connections", transport="websocket") == 1


def test_a_dropped_client_that_reads_gets_the_reason() -> None:
    bounds = PushBounds(unsent_bytes=1_000_000)
    with running_push_server(bounds=bounds) as server, open_slow_stream(server, "fields=full") as stream:
        wait_until(lambda: server.metric("connections", transport="sse") == 1, "the stream is open")
        position = 0
        while not server.metric("dropped_total"):
            position += 1
            deliver(server, position)
        assert b'data: {"type":"dropped","reason":"%b"}' % OVERLOADED.encode() in read_rest(stream)


def test_clients_with_equal_filters_share_what_waits_for_them() -> None:
    with running_push_server(bounds=PushBounds(unsent_bytes=700_000)) as server, ExitStack() as stack:
        for _ in range(SLOW_CLIENTS):
            stack.enter_context(open_slow_stream(server, "fields=full"))
        wait_until(lambda: server.metric("connections", transport="sse") == SLOW_CLIENTS, "all streams are open")
        position = 0
        while unsent_bytes(server) < 1_400_000:
            position += 1
            assert position < 300
            deliver(server, position)
        assert server.metric("dropped_total") == 0


def test_a_user_has_a_bounded_number_of_connections() -> None:
    anna, ben = {"X-User-ID": "anna"}, {"X-User-ID": "ben"}
    with running_push_server(bounds=PushBounds(connections=2)) as server:
        url = f"http://127.0.0.1:{server.port}/api/patterns/stream"
        with server.websocket("/ws/patterns", additional_headers=anna), server.event_stream(**anna) as events:
            assert next(events)["type"] == "ready"
            wait_until(lambda: server.metric("connections", transport="websocket") == 1, "the WebSocket is open")
            refused = httpx.get(url, headers=anna, verify=PLAIN_HTTP)
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "15")
            assert refused.json()["type"] == "urn:tickview:problem:too-many-connections"
            assert "TICKVIEW_PUSH_CONNECTIONS" in refused.json()["detail"]
            with pytest.raises(InvalidStatus) as closed, server.websocket("/ws", additional_headers=anna):
                pass
            assert closed.value.response.status_code == 429
            with server.websocket("/ws/patterns", additional_headers=ben) as connection:
                assert receive(connection)["type"] == "ready"
        wait_until(lambda: not server.metric("connections", transport="sse"), "the stream is closed")
        with server.event_stream(**anna) as events:
            assert next(events)["type"] == "ready"


def test_the_number_of_different_filters_is_bounded() -> None:
    with running_push_server(bounds=PushBounds(filters=2)) as server, ExitStack() as stack:
        for query in ("", "?confidence_min=0.1", "", "?confidence_min=0.1"):
            connection = stack.enter_context(server.websocket(f"/ws/patterns{query}"))
            assert receive(connection)["type"] == "ready"
        with pytest.raises(InvalidStatus) as refused, server.websocket("/ws/patterns?confidence_min=0.2"):
            pass
        response = refused.value.response
        assert (response.status_code, response.headers["Retry-After"]) == (503, "15")
        assert "TICKVIEW_PUSH_FILTERS" in orjson.loads(bytes(response.body or b""))["detail"]
