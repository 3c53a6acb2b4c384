"""Several API processes on one address: each takes its share of the connections."""

import signal
from contextlib import ExitStack
from http.client import HTTPConnection

import psutil

from tests.processes.api_service import api, connections_by_process

PROCESSES, CONNECTIONS = 3, 90


def open_connections(port: int, stack: ExitStack) -> None:
    """Open connections that each have received a response."""
    for _ in range(CONNECTIONS):
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        stack.callback(connection.close)
        connection.request("GET", "/api/health/live")
        response = connection.getresponse()
        response.read()
        assert response.status == 200


def test_connections_are_spread_and_wait_for_the_process_that_replaces_a_killed_one(module_redis_url: str) -> None:
    with api(module_redis_url, api_processes=PROCESSES) as client, ExitStack() as stack:
        port = client.base_url.port
        assert port
        open_connections(port, stack)
        shares = connections_by_process(port)
        # The shares of a fair choice are below these bounds once in a million times.
        assert len(shares) == PROCESSES
        assert min(shares.values()) >= 9, shares
        killed = psutil.Process(max(shares))
        killed.send_signal(signal.SIGKILL)
        open_connections(port, stack)
        after = connections_by_process(port)
        assert len(after) == PROCESSES, "the new process takes its share"
        assert killed.pid not in after
