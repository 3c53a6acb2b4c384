"""What the tests of the event log share."""

import select
import socket
import time
from collections.abc import Callable
from threading import Thread
from types import TracebackType
from typing import Self


def until(condition: Callable[[], object], what: str) -> None:
    """Return when the condition holds."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"waited for 30 s until {what}"
        time.sleep(0.01)


class LosingProxy:
    """Between client and server: hands everything on, but loses the first reply to a call of one function.

    It waits until the server has replied, then closes the connection instead of handing the reply on.
    """

    def __init__(self, host: str, port: int, function: bytes) -> None:
        self._server = (host, port)
        self._function = function
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lost = 0
        self._threads = [Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # the listener has been shut down
                return
            self._threads.append(Thread(target=self._serve, args=(client,)))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server:
            called = False
            while True:
                readable, _, _ = select.select([client, server], [], [])
                if client in readable:
                    request = client.recv(1_000_000)
                    if not request:
                        return
                    called = b"FCALL" in request and self._function in request
                    server.sendall(request)
                if server in readable:
                    reply = server.recv(1_000_000)
                    if called and not self.lost and b"Function not found" not in reply:
                        self.lost += 1
                        return
                    client.sendall(reply)
