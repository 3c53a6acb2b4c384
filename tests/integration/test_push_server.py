"""Live push over real sockets: WebSocket, server-sent events, filters, heartbeats, slow clients and refusals."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import orjson
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from readapi.push.subscribers import CODE_TOO_SLOW, TOO_SLOW
from tests.integration.push_server import PushServer, detection_commit, receive, running_push_server, symbols_in
from tests.plain_http import PLAIN_HTTP
from tests.processes.roles import wait_until
from tests.push import PushClient, commit_of

PADDING = "x" * 100_000
OpenWebSocket = Callable[..., ClientConnection]


@pytest.fixture
def server() -> Iterator[PushServer]:
    with running_push_server() as server:
        yield server


@pytest.fixture
def open_websocket(server: PushServer) -> Iterator[OpenWebSocket]:
    """Open WebSockets that are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda path, **options: stack.enter_context(server.websocket(path, **options))


def test_both_transports_send_the_same_messages(server: PushServer) -> None:
    with server.websocket("/ws/patterns") as connection, server.event_stream() as events:
        assert receive(connection) == {"type": "ready", "id": "patterns:1.1/market-0=0-0", "resumed": False}
        assert next(events)["type"] == "ready"
        row, commit = detection_commit(1)
        server.deliver(commit)
        message = receive(connection)
        assert next(events) == message
        assert {name: message[name] for name in ("type", "topic", "id", "position")} == {
            "type": "changes",
            "topic": "patterns",
            "id": "patterns:1.1/market-0=1-0",
            "position": "market-0=1",
        }
        [change] = message["changes"]
        assert change["op"] == "set"
        assert change["pattern"]["id"] == row.id
        server.deliver(commit_of("market-0", 2, (row.id, row, None)))
        assert receive(connection)["changes"] == [{"op": "remove", "id": row.id}]
        assert server.metric("connections", transport="websocket") == 1
        assert server.metric("connections", transport="sse") == 1
    wait_until(
        lambda: not server.metric("connections", transport="websocket"),
        "the server has noticed that the WebSocket is closed",
    )
    wait_until(
        lambda: not server.metric("connections", transport="sse"),
        "the server has noticed that the event stream is closed",
    )
    assert server.metric("dropped_total") == 0


def test_clients_receive_the_changes_and_fields_that_they_requested(
    server: PushServer, open_websocket: OpenWebSocket
) -> None:
    queries = ("?confidence_min=0.9", "?fields=full", "?symbols=S2")
    for connection in (connections := [open_websocket(f"/ws/patterns{query}") for query in queries]):
        assert receive(connection)["type"] == "ready"
    server.deliver(detection_commit(1, confidence=0.95)[1])
    server.deliver(detection_commit(2, confidence=0.6)[1])
    server.deliver(detection_commit(3, confidence=0.2)[1])
    server.deliver(commit_of("market-0", 4, ("end", None, None), knows_old=False))
    symbols_per_client = []
    for connection in connections:
        changes: list[dict[str, Any]] = []
        while not changes or changes[-1]["op"] != "remove":
            changes += receive(connection)["changes"]
        symbols_per_client.append([change["pattern"]["symbol"] for change in changes[:-1]])
        if connection is connections[1]:
            assert changes[0]["pattern"]["confidence"] == 0.95
            assert changes[0]["pattern"]["position"] == "market-0=1"
    assert symbols_per_client == [["S1"], ["S1", "S2"], ["S2"]]


def test_topics_share_a_websocket_and_an_event_id(server: PushServer) -> None:
    with server.websocket("/ws?job_ids=job-1,job-2") as connection:
        assert receive(connection)["id"] == "backtests:1.1/market-0=0-0;patterns:1.1/market-0=0-0"
        for number in (1, 2, 3):
            removal = (f"job-{4 - number}", None, None)
            server.deliver(commit_of("market-0", number, removal, knows_old=False), "backtests")
        server.deliver(detection_commit(1)[1])
        changes_by_topic: dict[str, list[Any]] = {"patterns": [], "backtests": []}
        while sum(map(len, changes_by_topic.values())) < 3:
            message = receive(connection)
            changes_by_topic[message["topic"]] += message["changes"]
        assert message["id"] == "backtests:1.1/market-0=3-0;patterns:1.1/market-0=1-0"
        assert changes_by_topic["backtests"] == [{"op": "remove", "id": "job-2"}, {"op": "remove", "id": "job-1"}]
        assert changes_by_topic["patterns"][0]["pattern"]["symbol"] == "S1"


def test_heartbeats_carry_the_event_id_and_report_stale_data() -> None:
    with (
        running_push_server(heartbeat_seconds=0.05) as server,
        server.websocket("/ws/patterns?confidence_min=1") as connection,
        server.event_stream() as events,
    ):
        assert receive(connection)["type"] == "ready"
        server.deliver(detection_commit(1, confidence=0.2)[1])
        client = PushClient()
        while client.last_id != "patterns:1.1/market-0=1-0":
            message = receive(connection)
            client.apply(orjson.dumps(message))
            assert message == {"type": "heartbeat", "id": client.last_id}
        server.freshness.age_seconds = 12.5
        while not (message := receive(connection)).get("stale"):
            assert message["type"] == "heartbeat"
        assert message["age_seconds"] == 12.5
        while not (message := next(events)).get("stale"):
            pass
        assert message["type"] == "heartbeat"


def test_a_client_that_reads_nothing_is_dropped_with_a_reason_and_delays_no_other(
    server: PushServer, open_websocket: OpenWebSocket
) -> None:
    slow_stream = socket.socket()
    slow_stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    slow_stream.connect(("127.0.0.1", server.port))
    with (
        slow_stream,
        server.websocket("/ws/patterns?fields=full") as fast_websocket,
        server.event_stream("?fields=full") as events,
    ):
        head = "GET /api/patterns/stream?fields=full HTTP/1.1\r\nHost: tests\r\n\r\n"
        slow_stream.sendall(head.encode())
        slow_websocket = open_websocket("/ws/patterns?fields=full", max_queue=1)
        wait_until(lambda: server.metric("connections", transport="sse") == 2, "both streams are open")
        assert receive(fast_websocket)["type"] == "ready"
        assert next(events)["type"] == "ready"
        position = 0
        while server.metric("dropped_total") < 2:
            position += 1
            assert position < 300
            server.deliver(detection_commit(position, extra={"padding": PADDING})[1])
            assert symbols_in(receive(fast_websocket)) == [f"S{position}"]
            assert next(events)["position"] == f"market-0={position}"
        body = b""
        while data := slow_stream.recv(65_536):
            body += data
        assert body.endswith(
            b'event: dropped\ndata: {"type":"dropped","reason":"%b"}\n\n\r\n0\r\n\r\n' % TOO_SLOW.encode()
        )
        while receive(slow_websocket)["type"] != "dropped":
            pass
        with pytest.raises(ConnectionClosed) as closed:
            slow_websocket.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (CODE_TOO_SLOW, TOO_SLOW)
        assert server.metric("dropped_total") == 2


def test_connections_are_closed_in_order_when_the_server_stops(
    server: PushServer, caplog: pytest.LogCaptureFixture
) -> None:
    with server.websocket("/ws/patterns") as connection, server.event_stream() as events:
        receive(connection)
        next(events)
        server.stop()
        assert "Cancel" not in caplog.text, "tasks were still running after the time to stop"
        with pytest.raises(ConnectionClosed) as closed:
            receive(connection)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert list(events) == []


def test_messages_from_clients_are_ignored(server: PushServer) -> None:
    with server.websocket("/ws/patterns") as connection:
        receive(connection)
        for number in range(20):
            connection.send("text" if number % 2 else b"bytes")
        assert connection.ping().wait(20)
        server.deliver(detection_commit(1)[1])
        assert receive(connection)["type"] == "changes"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/ws?topics=weather", "topics[0]"),
        ("/ws?topics=backtests&rs_min=1", "rs_min"),
        ("/ws?topics=patterns&job_ids=job-1", "job_ids"),
        ("/ws/patterns?confidence_min=7", "confidence_min"),
        ("/ws/patterns?sort_by=rs", "sort_by"),
        ("/ws/patterns?last_event_id=7", "last_event_id"),
        ("/ws?last_event_id=patterns:1.1/market-0=0-0", "last_event_id"),
    ],
)
def test_a_websocket_with_invalid_parameters_is_refused_before_the_handshake(
    server: PushServer, path: str, field: str
) -> None:
    with pytest.raises(InvalidStatus) as refused, server.websocket(path):
        pass
    response = refused.value.response
    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/problem+json"
    assert orjson.loads(bytes(response.body or b""))["errors"][0]["field"] == field


def test_an_event_stream_with_invalid_parameters_is_refused(server: PushServer) -> None:
    url = f"http://127.0.0.1:{server.port}/api/patterns/stream"
    assert httpx.get(url, params={"rsi_range": "abc"}, verify=PLAIN_HTTP).json()["errors"][0]["field"] == "rsi_range"
    response = httpx.get(url, headers={"Last-Event-ID": "7"}, verify=PLAIN_HTTP)
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "Last-Event-ID"


def test_a_websocket_to_an_unknown_path_is_refused(server: PushServer) -> None:
    with pytest.raises(InvalidStatus) as refused, server.websocket("/ws/nothing"):
        pass
    assert refused.value.response.status_code == 404
