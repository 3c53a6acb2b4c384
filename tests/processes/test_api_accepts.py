"""New connections to ``tickview serve``: a busy process accepts a burst of connections in a few turns of its loop."""

import os
import signal
import socket
from contextlib import ExitStack

import httpx
import psutil

from tests.plain_http import PLAIN_HTTP
from tests.processes.fork_server import ForkedProcess
from tests.processes.gunicorn_servers import serve_loop_turns
from tests.processes.roles import stop, wait_until
from tests.tcp_ports import free_port

CLIENTS = 128


def receive_turn(client: socket.socket) -> int:
    """Receive a response. Return its content, the number of the loop turn in which the server responded."""
    response = b""
    while b"\r\n\r\n" not in response or not response.rpartition(b"\r\n\r\n")[2]:
        received = client.recv(4_096)
        assert received, response
        response += received
    return int(response.rpartition(b"\r\n\r\n")[2])


def test_connections_that_arrive_together_are_accepted_within_a_few_loop_turns() -> None:
    port = free_port()
    process = ForkedProcess(serve_loop_turns, [str(port)], os.environ, {})
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, verify=PLAIN_HTTP) as client:

            def responds() -> bool:
                try:
                    return client.get("/").status_code == 200
                except httpx.ConnectError:
                    return False

            wait_until(responds, "the server responds")
        [worker] = psutil.Process(process.pid).children()
        with ExitStack() as stack:
            worker.send_signal(signal.SIGSTOP)
            clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 30)) for _ in range(CLIENTS)]
            for client_socket in clients:
                client_socket.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            worker.send_signal(signal.SIGCONT)
            turns = sorted(map(receive_turn, clients))
        # A server that accepts one connection per turn needs as many turns as there are clients.
        assert turns[-1] - turns[0] <= CLIENTS // 4
    finally:
        stop(process)
