"""The end of ``tickview serve``: in order, with clients connected, whichever signal comes, to whom, and when."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import orjson
import pytest
from redis import Redis
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from infra.recording.counters import COUNTS_KEY
from infra.web_server.gunicorn import KILL_SECONDS
from tests import servers
from tests.processes.api_service import answers, detection, post
from tests.processes.roles import start, stop, wait_until

Send = Callable[[int, int], None]

LATE = """
import os, signal, sys, time
import falcon.asgi
from infra.web_server.gunicorn import Server
from infra.processes.logs import LIBRARY_LOGS, configure_logs

number = signal.Signals[sys.argv[1]]
to_all = sys.argv[2] == "group"

def forked(arbiter, worker):
    '''In the new process, before it has handlers of its own.'''
    (os.killpg if to_all else os.kill)(arbiter.pid, number)
    deadline = time.monotonic() + 30
    while not signal.sigpending():
        assert time.monotonic() < deadline, "no signal waits for this process"
        time.sleep(0.01)

configure_logs("info", "serve")
options = {"bind": "127.0.0.1:0", "workers": 1, "post_fork": forked, "control_socket_disable": True,
           "logconfig_dict": LIBRARY_LOGS, "loglevel": "warning"}
Server(options, falcon.asgi.App).run()
"""
"""A server that is told to end when it has just forked."""


def logged(path: Path) -> list[str]:
    """What gunicorn and uvicorn had to say."""
    return [line["event"] for line in map(orjson.loads, path.read_bytes().splitlines()) if "logger" in line]


def read_to_the_end(socket: ClientConnection) -> None:
    while True:
        socket.recv(timeout=30)


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["the first process", "all"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_it_ends_in_order_with_clients_connected(
    redis_url: str, redis: Redis, tmp_path: Path, number: signal.Signals, send: Send
) -> None:
    port = servers.free_port()
    with (tmp_path / "log").open("wb") as log:
        process = start("serve", "--port", str(port), redis_url=redis_url, log=log, own_group=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_until(lambda: answers(client), "the API answers")
            post(client, [detection("LAST")])
            with (
                client.stream("GET", "/api/patterns/stream") as events,
                connect(f"ws://127.0.0.1:{port}/ws", open_timeout=30) as socket,
            ):
                assert events.status_code == 200
                assert orjson.loads(socket.recv(timeout=30))["type"] == "ready"
                send(process.pid, number)
                with pytest.raises(ConnectionClosed, match="the service stops"):
                    read_to_the_end(socket)
                *_, last = events.iter_lines()
                assert last == ""
            assert process.wait(timeout=2 * KILL_SECONDS) == 0
        assert redis.hget("tickview:intake", "http.recorded") == b"1", "what was counted in the last second is kept"
        assert logged(tmp_path / "log") == []
    finally:
        stop(process)


@pytest.mark.parametrize("whom", ["master", "group"])
@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP"])
def test_a_signal_that_comes_with_the_fork_is_heard(tmp_path: Path, number: str, whom: str) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", LATE, number, whom], stderr=log, start_new_session=True)
    try:
        assert process.wait(timeout=60) == 0
        assert logged(tmp_path / "log") == []
    finally:
        stop(process)


def test_what_is_being_counted_when_it_ends_is_kept(redis_url: str, redis: Redis) -> None:
    port = servers.free_port()
    process = start("serve", "--port", str(port), redis_url=redis_url, api_processes=1)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_until(lambda: answers(client), "the API answers")
            post(client, [detection("LAST")])
            redis.client_pause(1_500, all=False)
            # Or it has been already, once in some hundred times.
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
