"""A TCP proxy in front of a server. It can close, half-close, mute and delay its connections."""

import select
import socket
from contextlib import suppress
from threading import Event, Thread
from types import TracebackType
from typing import Self

KEPT_BYTES = 10_000
"""Number of bytes that are kept of each connection, for ``mute``."""


class TcpProxy:
    """A proxy that forwards everything until connections are muted.

    Args:
        port: The port of the server on this machine. A change applies to new connections.
    """

    def __init__(self, port: int) -> None:
        self.server_port = port
        self.muting: bytes | None = None
        """A request that mutes its connection before the server receives it."""
        self.delay = 0.0
        """Seconds by which everything is delayed."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.ending = Event()
        self._connections: list[_Connection] = []
        self._accepting = Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ending.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        for connection in self._connections:
            connection.end()
            connection.thread.join()
        self._listener.close()

    def mute(self, request: bytes) -> int:
        """Mute the open connections that have sent ``request``. Later connections work. Return their number."""
        muted = [connection for connection in self._open_connections() if request in connection.sent]
        for connection in muted:
            connection.muted = True
        return len(muted)

    def drop(self) -> int:
        """Close all open connections. Return their number."""
        for connection in (open_connections := self._open_connections()):
            connection.end()
        return len(open_connections)

    def half_close(self) -> int:
        """End the replies of all open connections. Later requests still reach the server. Return their number."""
        for connection in (open_connections := self._open_connections()):
            connection.half_close()
        return len(open_connections)

    def _open_connections(self) -> "list[_Connection]":
        return [connection for connection in self._connections if connection.is_open]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # the listener has been shut down
                return
            self._connections.append(_Connection(client, self))


class _Connection:
    """A connection through the proxy, with the thread that forwards its data."""

    def __init__(self, client: socket.socket, proxy: TcpProxy) -> None:
        self.muted = False
        self.sent = b""
        self._client = client
        self._proxy = proxy
        self.thread = Thread(target=self._forward)
        self.thread.start()

    @property
    def is_open(self) -> bool:
        return self.thread.is_alive()

    def end(self) -> None:
        """Close the connection. The thread wakes up, because the client's socket has no more data."""
        with suppress(OSError):  # the connection is closed already
            self._client.shutdown(socket.SHUT_RDWR)

    def half_close(self) -> None:
        """End the replies: the client reads the end of the connection, and the server does not."""
        with suppress(OSError):  # the client has closed the connection
            self._client.shutdown(socket.SHUT_WR)

    def _forward(self) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._proxy.server_port))
        except ConnectionRefusedError:
            self._client.close()
            return
        with self._client, server:
            while True:
                readable, _, _ = select.select([self._client, server], [], [])
                for source in readable:
                    try:
                        data = source.recv(1_000_000)
                        if not data:
                            return
                        if source is self._client:
                            self.sent += data[: max(0, KEPT_BYTES - len(self.sent))]
                            self.muted |= self._proxy.muting is not None and self._proxy.muting in data
                        if self._proxy.delay:
                            self._proxy.ending.wait(self._proxy.delay)
                        if not self.muted:
                            (server if source is self._client else self._client).sendall(data)
                    except ConnectionError:
                        return
