"""Live push over real sockets: the server's protocols, the hub, and the commits that it is told of."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import httpx
import orjson
import pytest
import uvicorn
from falcon.asgi import App
from prometheus_client import CollectorRegistry
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from infra.streams import HttpStream, WebSocketStream
from projections.patterns import PatternRow
from projections.versions import Build
from readapi.commits import Commit, Mark
from readapi.problems import handle_errors
from readapi.push.hub import Hub
from readapi.push.resources import LiveResource, PatternEventsResource, PatternsLiveResource
from readapi.push.subscribers import CODE_TOO_SLOW, TOO_SLOW
from tests.processes.roles import wait_until
from tests.push import BUILD, Client, commit_of
from tests.queries import row_of

PADDING = "x" * 100_000


class Store:
    """Whether the store is away, and for how long."""

    away: float | None = None

    def age(self) -> float | None:
        """As Freshness."""
        return self.away


class Server:
    """A server in a thread, and the hub in it."""

    def __init__(self, heartbeat_seconds: float) -> None:
        self.store = Store()
        self.registry = CollectorRegistry()
        self.hub = Hub(self.store, time.time, wait_seconds=0.2, heartbeat_seconds=heartbeat_seconds)
        self.hub.metrics.register(self.registry)
        app = App()
        app.ws_options.max_receive_queue = 0
        handle_errors(app, ())
        app.add_middleware(self)
        app.add_route("/api/patterns/stream", PatternEventsResource(self.hub))
        app.add_route("/ws/patterns", PatternsLiveResource(self.hub))
        app.add_route("/ws", LiveResource(self.hub))
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http=HttpStream,
            ws=WebSocketStream,
            ws_per_message_deflate=False,
            log_config=None,
            timeout_graceful_shutdown=3,
        )
        self.server = uvicorn.Server(config)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self.server.run, args=([self._listener],))
        self.loop: asyncio.AbstractEventLoop | None = None

    async def process_startup(self, _scope: Any, _event: Any) -> None:
        """As Lifespan."""
        self.loop = asyncio.get_running_loop()
        self.running = self.loop.create_task(self.hub.run())

    async def process_shutdown(self, _scope: Any, _event: Any) -> None:
        """As Lifespan."""
        self.running.cancel()

    def start(self) -> None:
        self._thread.start()
        wait_until(lambda: self.server.started, "the server answers")

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join()
        self._listener.close()

    def do(self, what: Callable[..., None], *arguments: Any) -> None:
        """In the event loop, and wait until it has been done."""
        done: Future[None] = Future()

        def work() -> None:
            what(*arguments)
            done.set_result(None)

        assert self.loop is not None
        self.loop.call_soon_threadsafe(work)
        done.result(10)

    def begin(self, build: Build = BUILD, *, position: int = 0) -> None:
        for listener in self.hub.listeners.values():
            self.do(listener.begin, build, {"market-0": Mark(position)})

    def hear(self, commit: Commit, topic: str = "patterns") -> None:
        self.do(self.hub.listeners[topic].hear, commit)

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"tickview_push_{name}", labels) or 0.0

    def websocket(self, path: str, **options: Any) -> AbstractContextManager[ClientConnection]:
        return connect(f"ws://127.0.0.1:{self.port}{path}", compression=None, max_size=None, **options)

    @contextmanager
    def events(self, query: str = "", **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
        """Server-sent events as they come."""
        url = f"http://127.0.0.1:{self.port}/api/patterns/stream{query}"
        with httpx.stream("GET", url, headers=headers, timeout=20) as response:
            assert response.status_code == 200
            assert response.headers["content-type"] == "text/event-stream"
            yield events_of(response.iter_lines())


def events_of(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    event: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
        else:
            message = orjson.loads(event["data"])
            assert message["type"] == event["event"]
            assert message.get("id") == event.get("id")
            event = {}
            yield message


@pytest.fixture
def server() -> Iterator[Server]:
    yield from _serve(heartbeat_seconds=3_600)


@pytest.fixture
def beating_server() -> Iterator[Server]:
    yield from _serve(heartbeat_seconds=0.05)


Open = Callable[..., ClientConnection]


@pytest.fixture
def open_here(server: Server) -> Iterator[Open]:
    """Opens WebSockets that are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda path, **options: stack.enter_context(server.websocket(path, **options))


def _serve(heartbeat_seconds: float) -> Iterator[Server]:
    server = Server(heartbeat_seconds)
    server.start()
    try:
        server.begin()
        wait_until(lambda: server.hub._told["patterns"].build == BUILD, "the hub has begun")
        yield server
    finally:
        server.stop()


def detected(position: int, confidence: float = 0.8, **others: Any) -> tuple[PatternRow, Commit]:
    row = row_of(f"S{position}", "Doji", "daily", 900.0, confidence, **others)
    return row, commit_of("market-0", position, (row.id, None, row))


def receive(connection: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = orjson.loads(connection.recv(timeout=20))
    return message


def test_a_change_comes_over_both_transports_in_the_same_words(server: Server) -> None:
    with server.websocket("/ws/patterns") as connection, server.events() as events:
        assert receive(connection) == {"type": "ready", "id": "patterns:1.1/market-0=0-0", "resumed": False}
        assert next(events)["type"] == "ready"
        row, commit = detected(1)
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
    server.hear(detected(1, confidence=0.95)[1])
    server.hear(detected(2, confidence=0.6)[1])
    server.hear(detected(3, confidence=0.2)[1])
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
        server.hear(detected(1)[1])
        told: dict[str, list[Any]] = {"patterns": [], "backtests": []}
        while sum(map(len, told.values())) < 3:
            message = receive(connection)
            told[message["topic"]] += message["changes"]
        assert message["id"] == "backtests:1.1/market-0=3-0;patterns:1.1/market-0=1-0"
        assert told["backtests"] == [{"op": "remove", "id": "job-2"}, {"op": "remove", "id": "job-1"}]
        assert told["patterns"][0]["pattern"]["symbol"] == "S1"


@pytest.mark.parametrize("transport", ["websocket", "header", "parameter"])
def test_who_comes_back_gets_what_was_missed_once_and_then_what_is_new(server: Server, transport: str) -> None:
    for position in range(1, 1_301):
        server.hear(detected(position)[1])
    wait_until(lambda: server.hub._told["patterns"].marks["market-0"] == Mark(1_300), "all has been told")
    last = "patterns:1.1/market-0=40-0"

    def follow(messages: Iterator[dict[str, Any]]) -> None:
        assert next(messages) == {"type": "ready", "id": last, "resumed": True}
        symbols: list[str] = []
        while len(symbols) < 1_260:
            message = next(messages)
            assert len(message["changes"]) <= 500
            symbols += [change["pattern"]["symbol"] for change in message["changes"]]
        server.hear(detected(1_301)[1])
        symbols += [change["pattern"]["symbol"] for change in next(messages)["changes"]]
        assert symbols == [f"S{position}" for position in range(41, 1_302)]

    if transport == "websocket":
        with server.websocket(f"/ws/patterns?last_event_id={last}") as connection:
            follow(orjson.loads(message) for message in connection)
    elif transport == "header":
        with server.events("?last_event_id=patterns:1.1/market-0=1299-0", **{"Last-Event-ID": last}) as events:
            follow(events)
    else:
        with server.events(f"?last_event_id={last}") as events:
            follow(events)
    assert server.count("resumed_total") == 1
    assert server.count("reset_total") == 0


def test_who_joins_while_much_is_told_is_told_nothing_twice_and_nothing_is_left_out(
    server: Server, open_here: Open
) -> None:
    for _ in range(150):  # more than are written to in one turn, so that others have theirs before all are
        receive(open_here("/ws/patterns?symbols=S1", max_queue=100))
    rows = [row_of(f"S{number}", "Doji", "daily", 900.0, 0.8) for number in range(300)]
    commits = [commit_of("market-0", position, *((row.id, row, row) for row in rows)) for position in range(1, 61)]

    def hear_all() -> None:
        for commit in commits:
            server.hear(commit)

    told = 0
    with ThreadPoolExecutor(1) as pool:
        hearing = pool.submit(hear_all)
        while told < len(commits):
            with server.websocket("/ws/patterns?fields=full") as connection:
                known = int(receive(connection)["id"].rpartition("=")[2].partition("-")[0])
                assert known >= told
                while known < len(commits):
                    message = receive(connection)
                    position = int(message["position"].partition("=")[2])
                    assert len(message["changes"]) == 300 * (position - known)
                    known = position
                    if position % 3 == 0:
                        break
                told = known
        hearing.result()


def test_who_is_ahead_of_the_process_is_waited_for(server: Server) -> None:
    with server.websocket("/ws/patterns?last_event_id=patterns:1.1/market-0=2-0") as connection:
        for position in (1, 2, 3):
            server.hear(detected(position)[1])
        assert receive(connection) == {"type": "ready", "id": "patterns:1.1/market-0=2-0", "resumed": True}
        assert [change["pattern"]["symbol"] for change in receive(connection)["changes"]] == ["S3"]


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ("patterns:1.1/market-0=99-0", "the id is ahead of what this process has heard of"),
        ("patterns:1.1/market-9=0-0", "the id is ahead of what this process has heard of"),
        ("patterns:1.0/market-0=0-0", "the read model is answered from build 1.1 now, not from 1.0"),
    ],
)
def test_who_cannot_be_told_what_was_missed_is_told_so_and_goes_on(server: Server, last: str, reason: str) -> None:
    with server.websocket(f"/ws/patterns?last_event_id={last}") as connection:
        now = "patterns:1.1/market-0=0-0"
        assert receive(connection) == {"type": "ready", "id": now, "resumed": False}
        assert receive(connection) == {"type": "reset", "id": now, "topic": "patterns", "reason": reason}
        server.hear(detected(1)[1])
        assert receive(connection)["type"] == "changes"
    assert server.count("reset_total") == 1
    assert server.count("resumed_total") == 0


def test_what_is_no_longer_kept_is_a_reset(server: Server) -> None:
    server.begin(position=100)
    wait_until(lambda: server.hub._told["patterns"].marks["market-0"] == Mark(100), "the hub has begun again")
    with server.websocket("/ws/patterns?last_event_id=patterns:1.1/market-0=7-0") as connection:
        assert receive(connection)["resumed"] is False
        assert receive(connection)["reason"] == "what came after the id is no longer kept"


def test_a_switch_to_another_build_is_a_reset_for_all(server: Server) -> None:
    with server.websocket("/ws") as connection, server.events() as events:
        receive(connection)
        next(events)
        server.begin(Build(2, 2), position=7)
        resets = [receive(connection), receive(connection)]
        assert {reset["topic"] for reset in resets} == {"patterns", "backtests"}
        assert resets[-1]["id"] == "backtests:2.2/market-0=7-0;patterns:2.2/market-0=7-0"
        assert next(events)["reason"] == "the read model is answered from another build now"
        row = row_of("AAPL", "Doji", "daily", 900.0, 0.8)
        server.hear(commit_of("market-0", 8, (row.id, None, row), build=Build(2, 2)))
        assert receive(connection)["id"] == "backtests:2.2/market-0=7-0;patterns:2.2/market-0=8-0"
        assert next(events)["position"] == "market-0=8"


def test_heartbeats_carry_the_id_and_say_when_the_store_is_away(beating_server: Server) -> None:
    with beating_server.websocket("/ws/patterns?confidence_min=1") as connection, beating_server.events() as events:
        assert receive(connection)["type"] == "ready"
        beating_server.hear(detected(1, confidence=0.2)[1])
        client = Client()
        while client.id != "patterns:1.1/market-0=1-0":
            message = receive(connection)
            client.take(orjson.dumps(message))
            assert message == {"type": "heartbeat", "id": client.id}
        beating_server.store.away = 12.5
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
            server.hear(detected(position, extra={"padding": PADDING})[1])
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
        server.hear(detected(1)[1])
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
