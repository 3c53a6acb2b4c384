"""WebSocket clients of live push, for tests with the real service."""

from typing import Any

import httpx
import orjson
from websockets.sync.client import ClientConnection, connect

TIMEOUT_SECONDS = 30.0
"""Seconds for which a client waits for the handshake or for a message."""


def websocket(client: httpx.Client, path: str, **options: Any) -> ClientConnection:
    """Open a WebSocket at a path of the API that ``client`` uses."""
    url = str(client.base_url.copy_with(scheme="ws")).rstrip("/")
    return connect(url + path, open_timeout=TIMEOUT_SECONDS, max_size=None, **options)


def receive(connection: ClientConnection) -> dict[str, Any]:
    """Wait for the next message and decode it."""
    message: dict[str, Any] = orjson.loads(connection.recv(timeout=TIMEOUT_SECONDS))
    return message


def receive_changes(connection: ClientConnection) -> dict[str, Any]:
    """Wait for the next message with changes. Heartbeats may come before it at any time."""
    while (message := receive(connection))["type"] == "heartbeat":
        pass
    assert message["type"] == "changes", message
    return message


def receive_until_closed(connection: ClientConnection) -> None:
    """Read messages until the server closes the connection. The end is the exception ``ConnectionClosed``."""
    while True:
        connection.recv(timeout=2 * TIMEOUT_SECONDS)
