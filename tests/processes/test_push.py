"""Live push from a producer's message to the client's socket, with the real service; and what interrupts it."""

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
from websockets.sync.client import ClientConnection, connect

from tests import servers
from tests.processes.api_service import answers, api, detection, post, service
from tests.processes.roles import running_role, tickview, wait_until

PROGRESS = {
    "event_type": "backtest_progress",
    "source": "tests",
    "data": {"job_id": "job-1", "progress": 0.25, "status": "processing"},
}


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with servers.valkey() as server:
        yield server.connection_url


@pytest.fixture(scope="module")
def client(redis_url: str) -> Iterator[httpx.Client]:
    with service(redis_url, api_processes=1) as client:
        yield client


def websocket(client: httpx.Client, path: str, headers: dict[str, str] | None = None) -> Any:
    return connect(
        str(client.base_url.copy_with(scheme="ws")).rstrip("/") + path, max_size=None, additional_headers=headers
    )


def receive(connection: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = orjson.loads(connection.recv(timeout=30))
    return message


def symbols_until(connection: ClientConnection, *wanted: str) -> tuple[list[str], str]:
    """The symbols of the patterns set, until all those wanted are among them, and the id of the last message."""
    symbols: list[str] = []
    while not set(wanted) <= set(symbols):
        message = receive(connection)
        symbols += [change["pattern"]["symbol"] for change in message.get("changes", ()) if change["op"] == "set"]
    return symbols, message["id"]


def test_what_is_recorded_comes_to_the_socket(client: httpx.Client, redis_url: str) -> None:
    with (
        websocket(client, "/ws?symbols=LIVE") as connection,
        client.stream("GET", "/api/patterns/stream", params={"symbols": "LIVE"}) as events,
    ):
        lines = events.iter_lines()
        assert receive(connection)["type"] == "ready"
        assert next(lines) == "event: ready"
        post(client, [detection("OTHER"), detection("LIVE", confidence=0.7)])
        [change] = (message := receive(connection))["changes"]
        assert change["pattern"] == {**change["pattern"], "symbol": "LIVE", "conf": 0.7}
        # What was told is what a scan shows from that position on.
        scan = client.get(
            "/api/patterns/scan", params={"symbols": "LIVE"}, headers={"TickView-Min-Position": message["position"]}
        )
        assert [row["id"] for row in scan.json()["patterns"]] == [change["pattern"]["id"]]
        while not (line := next(lines)).startswith('data: {"type":"changes"'):
            pass
        assert orjson.loads(line.removeprefix("data: "))["changes"][0]["pattern"]["id"] == change["pattern"]["id"]

        with running_role("record", redis_url=redis_url):
            message = {"channel": "tickstock.events.backtesting.progress", "payload": PROGRESS}
            line = orjson.dumps(message)
            assert tickview("publish", "-", "--via", "stream", redis_url=redis_url, stdin=line).returncode == 0
            [change] = receive(connection)["changes"]
        assert change["op"] == "set"
        assert (
            change["backtest"]["progress"] == client.get("/api/backtests/job-1").json()["backtest"]["progress"] == 0.25
        )


def test_who_comes_back_after_the_api_was_killed_misses_nothing(redis_url: str, client: httpx.Client) -> None:
    with api(redis_url, api_processes=1) as other:
        [worker] = [one for one in api_processes() if listens(one, other)]
        with websocket(other, "/ws/patterns") as connection:
            receive(connection)
            before = [f"A{number}" for number in range(20)]
            post(client, [detection(symbol) for symbol in before])
            _, last = symbols_until(connection, *before)
            worker.send_signal(signal.SIGKILL)
            with pytest.raises(ConnectionClosed):
                receive(connection)
        meanwhile = [f"B{number}" for number in range(20)]
        missed = post(client, [detection(symbol) for symbol in meanwhile])
        wait_until(lambda: not worker.is_running() and answers(other), "gunicorn has replaced the process")
        assert other.get("/api/patterns/scan", headers=missed).status_code == 200
        with websocket(other, f"/ws/patterns?last_event_id={last}") as connection:
            assert receive(connection) == {"type": "ready", "id": last, "resumed": True}
            post(client, [detection("LAST")])
            symbols, _ = symbols_until(connection, *meanwhile, "LAST")
    assert sorted(symbols) == sorted([*meanwhile, "LAST"])


def api_processes() -> list[psutil.Process]:
    """All below this one that gunicorn has forked."""
    children = psutil.Process(os.getpid()).children(recursive=True)
    return [one for one in children if "serve" in one.cmdline() and "serve" in psutil.Process(one.ppid()).cmdline()]


def listens(process: psutil.Process, client: httpx.Client) -> bool:
    return str(client.base_url.port) in process.cmdline()


def test_a_replay_and_a_rollback_reset_everybody(client: httpx.Client, redis_url: str) -> None:
    with websocket(client, "/ws?topics=patterns") as connection:
        before = receive(connection)["id"].partition("/")[0]
        assert tickview("replay", "patterns", redis_url=redis_url).returncode == 0
        while (message := receive(connection))["type"] != "reset":
            pass
        assert message["topic"] == "patterns"
        replayed = message["id"].partition("/")[0]
        assert replayed != before
        assert tickview("rollback", "patterns", redis_url=redis_url).returncode == 0
        while (message := receive(connection))["type"] != "reset":
            pass
        assert message["id"].partition("/")[0] == before
        post(client, [detection("AFTER")])
        symbols_until(connection, "AFTER")
    with websocket(client, f"/ws?topics=patterns&last_event_id={replayed}/market-0=0-0") as connection:
        assert receive(connection)["resumed"] is False
        assert receive(connection)["type"] == "reset"


def test_redis_away_ends_no_connection(tmp_path: Path) -> None:
    with (
        servers.valkey(tmp_path) as server,
        service(server.connection_url, api_processes=1) as client,
        websocket(client, "/ws/patterns") as connection,
    ):
        assert receive(connection)["type"] == "ready"
        post(client, [detection("BEFORE")])
        _, last = symbols_until(connection, "BEFORE")
        server.stop()
        while not (message := receive(connection)).get("stale"):
            assert message["type"] == "heartbeat"
        assert message == {"type": "heartbeat", "id": last, "stale": True, "age_seconds": message["age_seconds"]}
        assert message["age_seconds"] > 0
        server.start()
        wait_until(lambda: client.post("/api/events", json=detection("AFTER")).status_code == 201, "it records again")
        symbols_until(connection, "AFTER")


def test_a_stop_closes_connections_with_the_reason(redis_url: str) -> None:
    with api(redis_url, api_processes=1) as client, websocket(client, "/ws") as connection:
        receive(connection)
        [worker] = [one for one in api_processes() if listens(one, client)]
        psutil.Process(worker.ppid()).terminate()
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=30)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001


def test_the_metrics_count_what_live_push_does(client: httpx.Client) -> None:
    with websocket(client, "/ws/patterns") as connection:
        receive(connection)
        post(client, [detection("COUNT")])
        symbols_until(connection, "COUNT")
        wait_until(lambda: metric(client, "tickview_push_seconds_count") >= 1, "the time was measured")
        assert metric(client, 'tickview_push_connections{transport="websocket"}') == 1
    wait_until(
        lambda: metric(client, 'tickview_push_connections{transport="websocket"}') == 0, "the client is counted out"
    )


def metric(client: httpx.Client, name: str) -> float:
    [line] = [line for line in client.get("/metrics").text.splitlines() if line.startswith(name + " ")]
    return float(line.split()[-1])
