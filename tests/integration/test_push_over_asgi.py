"""Live push through plain ASGI: uvicorn with its own protocols, hypercorn, and daphne."""

import asyncio
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson
import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config
from websockets.exceptions import ConnectionClosed, InvalidStatus

from readapi.http import queued_stream
from readapi.ports.commits import CommitId
from readapi.push.connections import PushBounds
from readapi.push.subscribers import CODE_TOO_SLOW, MAX_UNSENT_BYTES, TOO_SLOW
from tests.integration.daphne_server import DaphneServer
from tests.integration.push_server import (
    PushServer,
    UvicornServer,
    detection_commit,
    receive,
    running_push_server,
    symbols_in,
)
from tests.processes.roles import wait_until

PADDING = "x" * 100_000


class HypercornServer:
    """hypercorn in a thread."""

    def __init__(self, app: Any, listener: socket.socket) -> None:
        self._app = app
        self._config = Config()
        # hypercorn closes its listener.
        self._config.bind = [f"fd://{listener.dup().detach()}"]
        self._config.graceful_timeout = 1
        self.should_exit = self.started = False

    def serve_until_stopped(self) -> None:
        """Serve until ``should_exit`` is true."""
        asyncio.run(serve(self._app, self._config, shutdown_trigger=self._stopped))

    async def _stopped(self) -> None:
        # hypercorn awaits the trigger when it listens.
        self.started = True
        while not self.should_exit:
            await asyncio.sleep(0.01)


SERVERS = {
    "uvicorn": partial(UvicornServer, options={"http": "httptools", "ws": "websockets-sansio"}),
    "uvicorn-wsproto-h11": partial(UvicornServer, options={"http": "h11", "ws": "wsproto"}),
    "hypercorn": HypercornServer,
    "daphne": DaphneServer,
}
WAITING_SERVERS = [name for name in SERVERS if name != "daphne"]
"""The servers whose ``send`` waits for a client that does not read."""


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[PushServer]:
    """A server with frequent heartbeats: Falcon notices with the next event that an event stream is closed."""
    with running_push_server(heartbeat_seconds=0.2, open_server=SERVERS[request.param]) as server:
        yield server


def next_changes(messages: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Return the next message that is no heartbeat."""
    return next(message for message in messages if message["type"] != "heartbeat")


def received(connection: Any) -> Iterator[dict[str, Any]]:
    """Receive messages from a WebSocket without end."""
    while True:
        yield receive(connection)


def test_both_transports_send_the_same_messages(server: PushServer) -> None:
    with server.websocket("/ws/patterns") as connection, server.event_stream() as events:
        messages = received(connection)
        assert next(messages) == {"type": "ready", "id": "patterns:1.1/market-0=0-0", "resumed": False}
        assert next(events)["type"] == "ready"
        connection.send("ignored")
        connection.send(b"ignored")
        for position in (1, 2):
            server.deliver(detection_commit(position)[1])
            message = next_changes(messages)
            assert symbols_in(message) == [f"S{position}"]
            assert next_changes(events) == message
        assert connections(server) == (1, 1)
        last_id = message["id"]
        server.deliver(detection_commit(3)[1])
        assert next_changes(events)["id"].endswith("=3-0")
    wait_until(lambda: connections(server) == (0, 0), "the server has noticed that both connections are closed")
    with server.event_stream(f"?last_event_id={last_id}") as events:
        assert next(events)["resumed"] is True
        assert symbols_in(next_changes(events)) == ["S3"]


REFUSED = "/ws/patterns?confidence_min=7"


@pytest.mark.parametrize("server", WAITING_SERVERS, indirect=True)
def test_a_websocket_is_refused_by_the_problem(server: PushServer) -> None:
    with pytest.raises(InvalidStatus) as refused, server.websocket(REFUSED):
        pass
    response = refused.value.response
    assert (response.status_code, response.headers["Content-Type"]) == (400, "application/problem+json")
    assert orjson.loads(bytes(response.body or b""))["errors"][0]["field"] == "confidence_min"
    assert connections(server) == (0, 0)


@pytest.mark.parametrize("server", ["daphne"], indirect=True)
def test_a_websocket_gets_the_problem_and_is_closed_where_the_server_cannot_answer_its_handshake(
    server: PushServer,
) -> None:
    for offered in (None, ["bearer", "token"]):
        with server.websocket(REFUSED, subprotocols=offered) as connection:
            assert connection.subprotocol == (offered and "bearer")
            problem = receive(connection)
            assert (problem["status"], problem["errors"][0]["field"]) == (400, "confidence_min")
            with pytest.raises(ConnectionClosed) as closed:
                connection.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 3_400
    assert connections(server) == (0, 0)


def connections(server: PushServer) -> tuple[float, float]:
    """Return the numbers of connected WebSockets and event streams."""
    return server.metric("connections", transport="websocket"), server.metric("connections", transport="sse")


def deliver(server: PushServer, position: int) -> None:
    """Deliver a large commit and wait until it is published."""
    server.deliver(detection_commit(position, extra={"padding": PADDING})[1])
    last = CommitId(position)
    wait_until(lambda: server.hub.published["patterns"].last_commits["market-0"] == last, "it is published")


def open_slow_stream(server: PushServer) -> socket.socket:
    """Open an event stream that the test does not read."""
    stream = socket.socket()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    stream.connect(("127.0.0.1", server.port))
    stream.sendall(b"GET /api/patterns/stream?fields=full HTTP/1.1\r\nHost: tests\r\n\r\n")
    return stream


def unsent_bytes(server: PushServer) -> int:
    """Return the bytes that wait for all connected clients."""
    audience = server.hub.subscribers.audience()
    clients = [client for _, framings in audience for _, members in framings for client in members]
    return sum(client.stream.unsent_bytes for client in clients)


@pytest.mark.parametrize("server", WAITING_SERVERS, indirect=True)
def test_a_client_that_reads_nothing_is_dropped_with_a_reason_and_delays_no_other(server: PushServer) -> None:
    with (
        open_slow_stream(server) as slow_stream,
        server.websocket("/ws/patterns?fields=full", max_queue=1) as slow_websocket,
        server.websocket("/ws/patterns?fields=full") as fast_websocket,
    ):
        wait_until(lambda: connections(server) == (2, 1), "all clients are connected")
        messages = received(fast_websocket)
        assert next(messages)["type"] == "ready"
        position = 0
        while server.metric("dropped_total") < 2:
            position += 1
            assert position < 300
            server.deliver(detection_commit(position, extra={"padding": PADDING})[1])
            assert symbols_in(next_changes(messages)) == [f"S{position}"]
            assert unsent_bytes(server) <= 3 * (MAX_UNSENT_BYTES + 2 * len(PADDING))
        body = b""
        while not body.endswith(b"0\r\n\r\n"):
            body += (data := slow_stream.recv(65_536))
            assert data, "the stream ends in order"
        assert b'event: dropped\ndata: {"type":"dropped","reason":"%b"}\n\n' % TOO_SLOW.encode() in body
        while receive(slow_websocket)["type"] != "dropped":
            pass
        with pytest.raises(ConnectionClosed) as closed:
            slow_websocket.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (CODE_TOO_SLOW, TOO_SLOW)


@pytest.mark.parametrize("server", ["uvicorn"], indirect=True)
def test_a_dropped_client_that_does_not_read_is_disconnected(
    server: PushServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queued_stream, "END_SECONDS", 0.1)
    with open_slow_stream(server), server.websocket("/ws/patterns?fields=full", max_queue=1, close_timeout=0.1):
        wait_until(lambda: connections(server) == (1, 1), "both clients are connected")
        position = 0
        while server.metric("dropped_total") < 2:
            position += 1
            assert position < 300
            deliver(server, position)
        wait_until(lambda: connections(server) == (0, 0), "both connections have ended")


def test_the_bytes_for_all_clients_together_are_bounded() -> None:
    bounds = PushBounds(unsent_bytes=1_000_000)
    with running_push_server(bounds=bounds, open_server=SERVERS["uvicorn"]) as server, open_slow_stream(server):
        wait_until(lambda: server.metric("connections", transport="sse") == 1, "the stream is open")
        position = 0
        while not server.metric("dropped_total"):
            position += 1
            assert position < 300
            deliver(server, position)
            assert unsent_bytes(server) <= 500_000 + 2 * len(PADDING)
