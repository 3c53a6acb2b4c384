"""daphne in a thread. All its servers of a process share one reactor, which Twisted can start only once."""

import asyncio
import socket
import threading
import time
from functools import cache
from typing import Any

from daphne.server import Server
from twisted.internet import reactor


@cache
def _reactor() -> Any:
    """Start the reactor in a thread that ends with the process."""
    running: Any = reactor
    thread = threading.Thread(target=running.run, kwargs={"installSignalHandlers": False}, daemon=True)
    thread.start()
    return running


class DaphneServer:
    """daphne on the port of a listener, which it replaces. It announces its start, which daphne itself does not."""

    def __init__(self, app: Any, listener: socket.socket) -> None:
        self._app = app
        self._port: int = listener.getsockname()[1]
        listener.close()
        self.should_exit = self.started = False
        self._is_ready = threading.Event()

    def serve_until_stopped(self) -> None:
        """Serve until ``should_exit`` is true."""
        running = _reactor()
        server = Server(self._app, [f"tcp:port={self._port}:interface=127.0.0.1"], signal_handlers=False, verbosity=0)
        server.abort_start = True  # The reactor runs already.
        stop = asyncio.Event()
        loop = running._asyncioEventloop
        lifespan = asyncio.run_coroutine_threadsafe(self._lifespan(stop), loop)
        running.callFromThread(server.run)
        while not self.should_exit:
            self.started = self._is_ready.is_set() and bool(server.listening_addresses)
            time.sleep(0.01)
        for listening in server.listeners:
            running.callFromThread(listening.addCallback, lambda port: port.stopListening())
        running.callFromThread(server.kill_all_applications)
        loop.call_soon_threadsafe(stop.set)
        lifespan.result(10)

    async def _lifespan(self, stop: asyncio.Event) -> None:
        """Start the application, and stop it when ``stop`` is set."""
        events = iter(("lifespan.startup", "lifespan.shutdown"))

        async def receive() -> dict[str, Any]:
            event = next(events)
            if event == "lifespan.shutdown":
                await stop.wait()
            return {"type": event}

        async def send(message: dict[str, Any]) -> None:
            assert message["type"].endswith(".complete"), message
            self._is_ready.set()

        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
        await self._app(scope, receive, send)
