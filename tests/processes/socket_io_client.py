"""A client of Socket.IO in a process of its own, as the library provides it.

Each line of the standard input is a JSON list: the name of an event to send, and its data. Each line of the standard
output is a JSON list: the name of a received event, and its data.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue
from threading import Thread
from typing import Any

import orjson
from socketio import Client
from socketio.exceptions import ConnectionError as ConnectionFailedError

TIMEOUT_SECONDS = 30.0
"""Seconds for which a test waits for an event."""


def main(url: str, transports: str, token: str) -> None:
    """Connect, and send the events of the standard input until its end."""
    client = Client(reconnection=False)

    def show(name: str, *data: Any) -> None:
        # The library calls handlers in several threads. A line is written whole.
        os.write(sys.stdout.fileno(), orjson.dumps([name, *data]) + b"\n")

    client.on("*", show)
    client.on("disconnect", lambda _reason: show("disconnected"))
    client.on("connect_error", lambda reason: show("refused", reason))
    auth = {"token": token} if token else None
    try:
        client.connect(url, transports=transports.split(","), auth=auth, wait_timeout=20)
    except ConnectionFailedError:
        return
    show("transport", client.transport())
    for line in sys.stdin:
        name, data = orjson.loads(line)
        client.emit(name, data, callback=lambda answer, name=name: show(f"ack {name}", answer))
    client.disconnect()


class SocketIoClient:
    """A running client.

    Args:
        url: The URL of the API.
        transports: The transports of the client, in order.
        token: The token of the client. Empty: none.
    """

    def __init__(self, url: str, transports: str = "polling,websocket", token: str = "") -> None:
        command = [sys.executable, "-m", "tests.processes.socket_io_client", url, transports, token]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._events: Queue[list[Any]] = Queue()
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._events.put(orjson.loads(line))

    def emit(self, name: str, data: Any = None) -> None:
        """Send an event."""
        assert self.process.stdin
        self.process.stdin.write(orjson.dumps([name, data]) + b"\n")
        self.process.stdin.flush()

    def receive(self, name: str) -> Any:
        """Wait for an event, and return its data. Events before it are dropped."""
        while True:
            received, *data = self._events.get(timeout=TIMEOUT_SECONDS)
            if received == name:
                return data[0] if data else None

    def close(self) -> None:
        """End the process of the client: the library disconnects from long polling only with the end of a poll."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stdin.close()
        self.process.stdout.close()


@contextmanager
def socket_io(url: str, transports: str = "polling,websocket", token: str = "") -> Iterator[SocketIoClient]:
    """Run a client of Socket.IO."""
    client = SocketIoClient(url, transports, token)
    try:
        yield client
    finally:
        client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
