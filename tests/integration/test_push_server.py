"""Live push over real sockets: the server's protocols, the hub, and the commits that it is told of."""

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
from tests.integration.push_server import Server, detection_commit, receive, serving
from tests.processes.roles import wait_until
from tests.push import Client, commit_of

PADDING = "x" * 100_000
Open = Callable[..., ClientConnection]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def open_here(server: Server) -> Iterator[Open]:
    """Opens WebSockets that are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda path, **options: stack.enter_context(server.websocket(path, **options))


def test_a_change_comes_over_both_transports_in_the_same_words(server: Server) -> None:
    with server.websocket("/ws/patterns") as connection, server.events() as events:
        assert receive(connection) == {"type": "ready", "id": "patterns:1.1/market-0=0-0", "resumed": False}
        assert next(events)["type"] == "ready"
        row, commit = detection_commit(1)
        server.hear(commit)
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
        server.hear(commit_of("market-0", 2, (row.id, row, None)))
        assert receive(connection)["changes"] == [{"op": "remove", "id": row.id}]
        assert server.count("connections", transport="websocket") == 1
        assert server.count("connections", transport="sse") == 1
    wait_until(lambda: not server.count("connections", transport="websocket"), "the WebSocket's end is noticed")
    wait_until(lambda: not server.count("connections", transport="sse"), "the end of the events is noticed")
    assert server.count("dropped_total") == 0


def test_clients_get_what_they_asked_for(server: Server, open_here: Open) -> None:
    queries = ("?confidence_min=0.9", "?fields=full", "?symbols=S2")
    for connection in (connections := [open_here(f"/ws/patterns{query}") for query in queries]):
        assert receive(connection)["type"] == "ready"
    server.hear(detection_commit(1, confidence=0.95)[1])
    server.hear(detection_commit(2, confidence=0.6)[1])
    server.hear(detection_commit(3, confidence=0.2)[1])
    server.hear(commit_of("market-0", 4, ("end", None, None), knows_old=False))
    seen = []
    for connection in connections:
        changes: list[dict[str, Any]] = []
        while not changes or changes[-1]["op"] != "remove":
            changes += receive(connection)["changes"]
        seen.append([change["pattern"]["symbol"] for change in changes[:-1]])
        if connection is connections[1]:
            assert changes[0]["pattern"]["confidence"] == 0.95
            assert changes[0]["pattern"]["position"] == "market-0=1"
    assert seen == [["S1"], ["S1", "S2"], ["S2"]]


def test_topics_share_a_socket_and_an_id(server: Server) -> None:
    with server.websocket("/ws?job_ids=job-1,job-2") as connection:
        assert receive(connection)["id"] == "backtests:1.1/market-0=0-0;patterns:1.1/market-0=0-0"
        for number in (1, 2, 3):
            gone = (f"job-{4 - number}", None, None)
            server.hear(commit_of("market-0", number, gone, knows_old=False), "backtests")
        server.hear(detection_commit(1)[1])
        told: dict[str, list[Any]] = {"patterns": [], "backtests": []}
        while sum(map(len, told.values())) < 3:
            message = receive(connection)
            told[message["topic"]] += message["changes"]
        assert message["id"] == "backtests:1.1/market-0=3-0;patterns:1.1/market-0=1-0"
        assert told["backtests"] == [{"op": "remove", "id": "job-2"}, {"op": "remove", "id": "job-1"}]
        assert told["patterns"][0]["pattern"]["symbol"] == "S1"


def test_heartbeats_carry_the_id_and_say_when_the_store_is_away() -> None:
    with (
        serving(heartbeat_seconds=0.05) as server,
        server.websocket("/ws/patterns?confidence_min=1") as connection,
        server.events() as events,
    ):
        assert receive(connection)["type"] == "ready"
        server.hear(detection_commit(1, confidence=0.2)[1])
        client = Client()
        while client.id != "patterns:1.1/market-0=1-0":
            message = receive(connection)
            client.take(orjson.dumps(message))
            assert message == {"type": "heartbeat", "id": client.id}
        server.store.away = 12.5
        while not (message := receive(connection)).get("stale"):
            assert message["type"] == "heartbeat"
        assert message["age_seconds"] == 12.5
        while not (message := next(events)).get("stale"):
            pass
        assert message["type"] == "heartbeat"


def test_a_client_that_reads_nothing_is_dropped_with_the_reason_and_holds_up_nobody(
    server: Server, open_here: Open
) -> None:
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    slow.connect(("127.0.0.1", server.port))
    with slow, server.websocket("/ws/patterns?fields=full") as quick, server.events("?fields=full") as events:
        head = "GET /api/patterns/stream?fields=full HTTP/1.1\r\nHost: tests\r\n\r\n"
        slow.sendall(head.encode())
        stuck = open_here("/ws/patterns?fields=full", max_queue=1)
        wait_until(lambda: server.count("connections", transport="sse") == 2, "both streams are open")
        assert receive(quick)["type"] == "ready"
        assert next(events)["type"] == "ready"
        position = 0
        while server.count("dropped_total") < 2:
            position += 1
            assert position < 300
            server.hear(detection_commit(position, extra={"padding": PADDING})[1])
            symbols = [change["pattern"]["symbol"] for change in receive(quick)["changes"]]
            assert symbols == [f"S{position}"]
            assert next(events)["position"] == f"market-0={position}"
        body = b""
        while data := slow.recv(65_536):
            body += data
        assert body.endswith(
            b'event: dropped\ndata: {"type":"dropped","reason":"%b"}\n\n\r\n0\r\n\r\n' % TOO_SLOW.encode()
        )
        while receive(stuck)["type"] != "dropped":
            pass
        with pytest.raises(ConnectionClosed) as closed:
            stuck.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (CODE_TOO_SLOW, TOO_SLOW)
        assert server.count("dropped_total") == 2


def test_when_the_process_stops_connections_are_closed_properly(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with server.websocket("/ws/patterns") as connection, server.events() as events:
        receive(connection)
        next(events)
        server.stop()
        assert "Cancel" not in caplog.text, "tasks were left when the time to end was over"
        with pytest.raises(ConnectionClosed) as closed:
            receive(connection)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert list(events) == []


def test_what_clients_send_is_ignored(server: Server) -> None:
    with server.websocket("/ws/patterns") as connection:
        receive(connection)
        for number in range(20):
            connection.send("text" if number % 2 else b"bytes")
        assert connection.ping().wait(20)
        server.hear(detection_commit(1)[1])
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
def test_a_websocket_with_wrong_parameters_is_refused_before_it_is_one(server: Server, path: str, field: str) -> None:
    with pytest.raises(InvalidStatus) as refused, server.websocket(path):
        pass
    response = refused.value.response
    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/problem+json"
    assert orjson.loads(bytes(response.body or b""))["errors"][0]["field"] == field


def test_events_with_wrong_parameters_are_refused(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}/api/patterns/stream"
    assert httpx.get(url, params={"rsi_range": "abc"}).json()["errors"][0]["field"] == "rsi_range"
    answer = httpx.get(url, headers={"Last-Event-ID": "7"})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "Last-Event-ID"


def test_a_websocket_to_nowhere_is_refused(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused, server.websocket("/ws/nothing"):
        pass
    assert refused.value.response.status_code == 404
