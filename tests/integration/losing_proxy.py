"""A TCP proxy that loses one reply of a Redis server."""

import select
import socket
from threading import Thread
from types import TracebackType
from typing import Self


class LosingProxy:
    """A proxy that forwards everything except the first reply to a call of one server-side function.

    The proxy waits for this reply and then closes the connection to the client. The server has therefore executed the
    function, but the client does not know.
    """

    def __init__(self, host: str, port: int, function: bytes) -> None:
        self._server = (host, port)
        self._function = function
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lost_replies = 0
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
                    if called and not self.lost_replies and b"Function not found" not in reply:
                        self.lost_replies += 1
                        return
                    client.sendall(reply)
