"""Small servers under TickView's gunicorn, which tests start as processes of their own."""

import asyncio
import os
import signal
import sys
import time
from typing import Any

import falcon.asgi

from infra.processes.logs import LIBRARY_LOGS, configure_logs
from infra.web_server.gunicorn import Server


class LoopTurnCounter:
    """A resource and middleware that keeps the event loop busy and responds with the number of its turns."""

    def __init__(self) -> None:
        self._turns = 0

    async def process_startup(self, _scope: Any, _event: Any) -> None:
        self._counting = asyncio.create_task(self._count())

    async def process_shutdown(self, _scope: Any, _event: Any) -> None:
        self._counting.cancel()

    async def _count(self) -> None:
        while True:
            self._turns += 1
            await asyncio.sleep(0)

    async def on_get(self, _request: Any, response: Any) -> None:
        response.text = str(self._turns)


def serve_loop_turns() -> None:
    """Serve a ``LoopTurnCounter``. The argument is the port."""
    counter = LoopTurnCounter()
    app = falcon.asgi.App(middleware=[counter])
    app.add_route("/", counter)
    options = {"bind": f"127.0.0.1:{sys.argv[1]}", "workers": 1, "control_socket_disable": True, "loglevel": "warning"}
    Server(options, app).run()


def serve_and_signal_at_fork() -> None:
    """Serve an empty application, and send a signal as soon as the worker process is forked.

    The arguments are the name of the signal and its receiver: ``master`` or ``group``.
    """
    number = signal.Signals[sys.argv[1]]
    send = os.killpg if sys.argv[2] == "group" else os.kill

    def send_signal(arbiter: Any, _worker: Any) -> None:
        """Send the signal in the new process, before the process has its own signal handlers."""
        send(arbiter.pid, number)
        deadline = time.monotonic() + 30
        while not signal.sigpending():
            assert time.monotonic() < deadline, "no signal is pending in this process"
            time.sleep(0.01)

    configure_logs("info", "serve")
    options = {
        "bind": "127.0.0.1:0",
        "workers": 1,
        "post_fork": send_signal,
        "control_socket_disable": True,
        "logconfig_dict": LIBRARY_LOGS,
        "loglevel": "warning",
    }
    Server(options, falcon.asgi.App).run()
