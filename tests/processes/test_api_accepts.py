"""New connections to ``tickview serve``: a busy process takes those that come together in a few turns of its loop."""

import signal
import socket
import subprocess
import sys
from contextlib import ExitStack

import httpx
import psutil

from tests import servers
from tests.processes.roles import stop, wait_until

CLIENTS = 128

COUNTING = """
import asyncio, sys
from falcon.asgi import App
from infra.web_server.gunicorn import Server

class Turns:
    '''Answers with the number of the event loop's turn.'''

    def __init__(self):
        self.turns = 0

    async def process_startup(self, scope, event):
        self.counting = asyncio.create_task(self.count())

    async def process_shutdown(self, scope, event):
        self.counting.cancel()

    async def count(self):
        while True:
            self.turns += 1
            await asyncio.sleep(0)

    async def on_get(self, req, resp):
        resp.text = str(self.turns)

def load():
    turns = Turns()
    app = App(middleware=[turns])
    app.add_route("/", turns)
    return app

options = {"bind": f"127.0.0.1:{sys.argv[1]}", "workers": 1, "control_socket_disable": True, "loglevel": "warning"}
Server(options, load).run()
"""
"""A server whose event loop is always busy, and counts its turns."""


def answered(client: socket.socket) -> int:
    """The turn that an answer tells."""
    answer = b""
    while b"\r\n\r\n" not in answer or not answer.rpartition(b"\r\n\r\n")[2]:
        received = client.recv(4_096)
        assert received, answer
        answer += received
    return int(answer.rpartition(b"\r\n\r\n")[2])


def test_those_who_come_together_are_taken_together() -> None:
    port = servers.free_port()
    process = subprocess.Popen([sys.executable, "-c", COUNTING, str(port)])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:

            def answers() -> bool:
                try:
                    return client.get("/").status_code == 200
                except httpx.ConnectError:
                    return False

            wait_until(answers, "it answers")
        [worker] = psutil.Process(process.pid).children()
        with ExitStack() as stack:
            worker.send_signal(signal.SIGSTOP)
            clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 30)) for _ in range(CLIENTS)]
            for one in clients:
                one.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            worker.send_signal(signal.SIGCONT)
            turns = sorted(map(answered, clients))
        # One each turn would take as many turns as there are clients.
        assert turns[-1] - turns[0] <= CLIENTS // 4
    finally:
        stop(process)
