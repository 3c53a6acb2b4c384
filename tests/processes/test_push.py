"""Live push of the real service, from the message of a producer to the client, and through interruptions."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests import servers
from tests.processes.api_service import api, api_responds, detection, post, service
from tests.processes.archiving_service import metric
from tests.processes.push_clients import receive, receive_changes, websocket
from tests.processes.roles import running_role, tickview, wait_until

BACKTEST_PROGRESS = {
    "event_type": "backtest_progress",
    "source": "tests",
    "data": {"job_id": "job-1", "progress": 0.25, "status": "processing"},
}


CONNECTIONS = 'tickview_push_connections{transport="websocket"}'
"""Name of a metric: the number of open WebSockets."""


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with servers.valkey() as server:
        yield server.connection_url


@pytest.fixture(scope="module")
def client(redis_url: str) -> Iterator[httpx.Client]:
    with service(redis_url, api_processes=1) as client:
        yield client


def receive_symbols(connection: ClientConnection, *expected: str) -> tuple[list[str], str]:
    """Receive changes until the expected symbols are complete. Return all symbols and the id of the last message."""
    symbols: list[str] = []
    while not set(expected) <= set(symbols):
        message = receive(connection)
        symbols += [change["pattern"]["symbol"] for change in message.get("changes", ()) if change["op"] == "set"]
    return symbols, message["id"]


def test_recorded_events_reach_websockets_and_event_streams(client: httpx.Client, redis_url: str) -> None:
    with (
        websocket(client, "/ws?symbols=LIVE") as connection,
        client.stream("GET", "/api/patterns/stream", params={"symbols": "LIVE"}) as events,
    ):
        lines = events.iter_lines()
        assert receive(connection)["type"] == "ready"
        assert next(lines) == "event: ready"
        post(client, [detection("OTHER"), detection("LIVE", confidence=0.7)])
        [change] = (message := receive_changes(connection))["changes"]
        assert change["pattern"] == {**change["pattern"], "symbol": "LIVE", "conf": 0.7}
        # A scan at the position of the message returns the pushed pattern.
        scan = client.get(
            "/api/patterns/scan", params={"symbols": "LIVE"}, headers={"TickView-Min-Position": message["position"]}
        )
        assert [row["id"] for row in scan.json()["patterns"]] == [change["pattern"]["id"]]
        while not (line := next(lines)).startswith('data: {"type":"changes"'):
            pass
        assert orjson.loads(line.removeprefix("data: "))["changes"][0]["pattern"]["id"] == change["pattern"]["id"]

        with running_role("record", redis_url=redis_url):
            message = {"channel": "tickstock.events.backtesting.progress", "payload": BACKTEST_PROGRESS}
            line = orjson.dumps(message)
            assert tickview("publish", "-", "--via", "stream", redis_url=redis_url, stdin=line).returncode == 0
            [change] = receive_changes(connection)["changes"]
        assert change["op"] == "set"
        assert (
            change["backtest"]["progress"] == client.get("/api/backtests/job-1").json()["backtest"]["progress"] == 0.25
        )


def test_the_changes_of_a_read_model_that_merges_logs_are_pushed_with_merged_rows(client: httpx.Client) -> None:
    def rows_are_merged() -> bool:
        response = client.get("/api/read-models/activity")
        return response.status_code == 200 and not response.json()["cache_info"]["build"].endswith(".0")

    # While the replica of the first build loads, queries are refused, and its first answer resets clients.
    wait_until(rows_are_merged, "the replica answers")
    path = "/ws?topics=activity&event_type=PatternDetected&events_min=2&fields=event_type,events"
    with websocket(client, path) as connection:
        assert receive(connection)["type"] == "ready"
        # The symbols are in different partitions of the log.
        post(client, [detection(f"MERGED{number}") for number in range(12)])
        events = 0
        while events < 12:
            for change in receive_changes(connection)["changes"]:
                assert change["row"]["event_type"] == "PatternDetected"
                assert change["row"]["events"] > events
                events = change["row"]["events"]


def test_a_client_that_resumes_after_the_api_was_killed_misses_nothing(redis_url: str, client: httpx.Client) -> None:
    with api(redis_url, api_processes=1) as other:
        [worker] = workers_of(other)
        with websocket(other, "/ws/patterns") as connection:
            receive(connection)
            before = [f"A{number}" for number in range(20)]
            post(client, [detection(symbol) for symbol in before])
            _, last_id = receive_symbols(connection, *before)
            worker.send_signal(signal.SIGKILL)
            with pytest.raises(ConnectionClosed):
                receive(connection)
        missed_symbols = [f"B{number}" for number in range(20)]
        header = post(client, [detection(symbol) for symbol in missed_symbols])
        wait_until(lambda: not worker.is_running() and api_responds(other), "gunicorn has replaced the process")
        assert other.get("/api/patterns/scan", headers=header).status_code == 200
        with websocket(other, f"/ws/patterns?last_event_id={last_id}") as connection:
            assert receive(connection) == {"type": "ready", "id": last_id, "resumed": True}
            post(client, [detection("LAST")])
            symbols, _ = receive_symbols(connection, *missed_symbols, "LAST")
    assert sorted(symbols) == sorted([*missed_symbols, "LAST"])


def workers_of(client: httpx.Client) -> list[psutil.Process]:
    """Find the processes that gunicorn forked for the API of this client. They share its listening socket."""
    processes = psutil.Process(os.getpid()).children(recursive=True)
    listening = {process.pid: process for process in processes if listens_on(process, client.base_url.port)}
    return [process for process in listening.values() if process.ppid() in listening]


def listens_on(process: psutil.Process, port: int | None) -> bool:
    connections = process.net_connections(kind="tcp")
    return any(connection.status == psutil.CONN_LISTEN and connection.laddr.port == port for connection in connections)


def receive_reset(connection: ClientConnection) -> dict[str, Any]:
    while (message := receive(connection))["type"] != "reset":
        pass
    return message


def test_a_replay_and_a_rollback_reset_every_client(client: httpx.Client, redis_url: str) -> None:
    with websocket(client, "/ws?topics=patterns") as connection:
        before = receive(connection)["id"].partition("/")[0]
        assert tickview("replay", "patterns", redis_url=redis_url).returncode == 0
        message = receive_reset(connection)
        assert message["topic"] == "patterns"
        replayed = message["id"].partition("/")[0]
        assert replayed != before
        assert tickview("rollback", "patterns", redis_url=redis_url).returncode == 0
        assert receive_reset(connection)["id"].partition("/")[0] == before
        post(client, [detection("AFTER")])
        receive_symbols(connection, "AFTER")
    with websocket(client, f"/ws?topics=patterns&last_event_id={replayed}/market-0=0-0") as connection:
        assert receive(connection)["resumed"] is False
        assert receive(connection)["type"] == "reset"


def test_connections_outlive_an_outage_of_redis_and_report_it(tmp_path: Path) -> None:
    with (
        servers.valkey(tmp_path) as server,
        service(server.connection_url, api_processes=1) as client,
        websocket(client, "/ws/patterns") as connection,
    ):
        assert receive(connection)["type"] == "ready"
        post(client, [detection("BEFORE")])
        _, last_id = receive_symbols(connection, "BEFORE")
        server.stop()
        while not (message := receive(connection)).get("stale"):
            assert message["type"] == "heartbeat"
        assert message == {"type": "heartbeat", "id": last_id, "stale": True, "age_seconds": message["age_seconds"]}
        assert message["age_seconds"] > 0
        server.start()
        wait_until(
            lambda: client.post("/api/events", json=detection("AFTER")).status_code == 201, "the API records again"
        )
        receive_symbols(connection, "AFTER")


def test_a_stop_of_the_api_closes_connections_with_code_1001(redis_url: str) -> None:
    with api(redis_url, api_processes=1) as client, websocket(client, "/ws") as connection:
        receive(connection)
        [worker] = workers_of(client)
        psutil.Process(worker.ppid()).terminate()
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=30)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001


def test_the_metrics_count_connections_and_measure_delivery_times(client: httpx.Client) -> None:
    with websocket(client, "/ws/patterns") as connection:
        receive(connection)
        post(client, [detection("COUNT")])
        receive_symbols(connection, "COUNT")
        wait_until(lambda: metric(client, "tickview_push_seconds_count"), "the delivery time is measured")
        assert metric(client, CONNECTIONS) == 1
    wait_until(lambda: metric(client, CONNECTIONS) == 0, "the closed connection is not counted")
