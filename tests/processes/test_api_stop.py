"""The stop of ``tickview serve`` by a signal: with clients connected, during a fork, and while counts are written."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import orjson
import pytest
from redis import Redis
from websockets.exceptions import ConnectionClosed

from infra.recording.counters import COUNTS_KEY
from infra.web_server.gunicorn import KILL_SECONDS
from tests.plain_http import PLAIN_HTTP
from tests.processes.api_service import api_responds, detection, post
from tests.processes.fork_server import ForkedProcess
from tests.processes.gunicorn_servers import serve_and_signal_at_fork
from tests.processes.push_clients import receive, receive_until_closed, websocket
from tests.processes.roles import start, stop, wait_until
from tests.tcp_ports import free_port

Send = Callable[[int, int], None]


def library_log_events(path: Path) -> list[str]:
    """Read the log events of gunicorn and uvicorn."""
    return [line["event"] for line in map(orjson.loads, path.read_bytes().splitlines()) if "logger" in line]


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["master", "group"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_a_signal_closes_connections_and_ends_the_api_with_code_0(
    redis_url: str, redis: Redis, tmp_path: Path, number: signal.Signals, send: Send
) -> None:
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        process = start("serve", "--port", str(port), redis_url=redis_url, log=log, own_group=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, verify=PLAIN_HTTP) as client:
            wait_until(lambda: api_responds(client), "the API responds")
            post(client, [detection("LAST")])
            with (
                client.stream("GET", "/api/patterns/stream") as events,
                websocket(client, "/ws") as connection,
            ):
                assert events.status_code == 200
                assert receive(connection)["type"] == "ready"
                send(process.pid, number)
                with pytest.raises(ConnectionClosed, match="the service stops"):
                    receive_until_closed(connection)
                *_, last_line = events.iter_lines()
                assert last_line == ""
            assert process.wait(timeout=2 * KILL_SECONDS) == 0
        assert redis.hget("tickview:intake", "http.recorded") == b"1", "the counts of the last second are stored"
        assert library_log_events(tmp_path / "log") == []
    finally:
        stop(process)


@pytest.mark.parametrize("receiver", ["master", "group"])
@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP"])
def test_a_signal_during_the_fork_of_a_worker_stops_the_server(tmp_path: Path, number: str, receiver: str) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = ForkedProcess(serve_and_signal_at_fork, [number, receiver], os.environ, {2: log}, own_group=True)
    try:
        assert process.wait(timeout=60) == 0
        assert library_log_events(tmp_path / "log") == []
    finally:
        stop(process)


def test_counts_that_are_being_written_at_the_stop_are_stored(redis_url: str, redis: Redis) -> None:
    port = free_port()
    process = start("serve", "--port", str(port), redis_url=redis_url, api_processes=1)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, verify=PLAIN_HTTP) as client:
            wait_until(lambda: api_responds(client), "the API responds")
            post(client, [detection("LAST")])
            redis.client_pause(1_500, all=False)
            # Rarely, the API writes the count before the pause begins.
            wait_until(
                lambda: redis.info("clients")["blocked_clients"] > 0 or redis.hget(COUNTS_KEY, "http.recorded"),
                "the count is being written",
            )
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=2 * KILL_SECONDS) == 0
        assert redis.hget(COUNTS_KEY, "http.recorded") == b"1"
    finally:
        redis.client_unpause()
        stop(process)
