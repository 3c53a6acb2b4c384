"""Socket.IO on the hub: a client that does not read, and a session that nobody has admitted."""

import socket
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from socketio import AsyncManager
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from readapi.access.guard import Guard
from readapi.http import queued_stream
from readapi.push.subscribers import MAX_UNSENT_BYTES
from readapi.socket_io import application
from readapi.socket_io.application import SocketIoApplication
from tests.integration.push_server import PushServer, UvicornServer, detection_commit, running_push_server
from tests.processes.roles import wait_until

PATH = "/socket.io/?EIO=4&transport=websocket"
PADDING = "x" * 100_000


async def start(_scope: Any) -> None:
    """Do nothing: the process has started."""


@pytest.fixture
def server() -> Iterator[PushServer]:
    applications: list[SocketIoApplication] = []

    def open_server(app: Any, listener: socket.socket) -> UvicornServer:
        async def dispatch(scope: Any, receive: Any, send: Any) -> None:
            target = applications[0] if scope.get("path") == "/socket.io/" else app
            await target(scope, receive, send)

        return UvicornServer(dispatch, listener)

    with running_push_server(open_server=open_server) as server:
        workspaces: Any = None
        applications.append(SocketIoApplication(server.hub, Guard(), workspaces, AsyncManager(), start))
        yield server


def connect_to_namespace(connection: ClientConnection) -> None:
    """Connect a session, and receive its confirmation."""
    assert str(connection.recv(timeout=20)).startswith("0{")
    connection.send("40")
    assert str(connection.recv(timeout=20)).startswith("40{")
    assert "connection_confirmed" in str(connection.recv(timeout=20))


def receive_event(connection: ClientConnection, name: str) -> Any:
    """Wait for an event and return its data. The packets of other events begin with other names."""
    start = f'42["{name}",'
    while not (packet := str(connection.recv(timeout=20))).startswith(start):
        pass
    return orjson.loads(packet[2:])[1]


def unsent_bytes(server: PushServer) -> int:
    """Return the bytes that wait for the client that is most behind."""
    audience = server.hub.subscribers.audience()
    clients = [client for _, framings in audience for _, members in framings for client in members]
    return max((client.stream.unsent_bytes for client in clients), default=0)


def test_a_client_that_reads_nothing_is_dropped(server: PushServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queued_stream, "END_SECONDS", 0.1)
    monkeypatch.setattr(application, "END_SECONDS", 0.1)
    with (
        server.websocket(PATH, max_queue=1, close_timeout=0.1) as slow,
        server.websocket(PATH) as fast,
    ):
        for connection in (slow, fast):
            connect_to_namespace(connection)
            connection.send('42["subscribe_patterns"]')
            receive_event(connection, "subscription_confirmed")
        position = 0
        while not server.metric("dropped_total"):
            position += 1
            assert position < 300
            server.deliver(detection_commit(position, indicators={"padding": PADDING})[1])
            assert receive_event(fast, "pattern_detected")["symbol"] == f"S{position}"
            assert unsent_bytes(server) <= MAX_UNSENT_BYTES + 2 * len(PADDING)
        assert server.metric("connections", transport="socketio") == 2
    wait_until(lambda: not server.metric("connections", transport="socketio"), "both clients have left")
    assert server.hub.subscribers.audience() == []


def test_a_session_that_does_not_connect_is_ended(server: PushServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "CONNECT_SECONDS", 1.0)
    with server.websocket(PATH) as connected, server.websocket(PATH) as idle:
        connect_to_namespace(connected)
        assert str(idle.recv(timeout=20)).startswith("0{")
        with pytest.raises(ConnectionClosed):
            receive_event(idle, "none")
        connected.send('42["heartbeat"]')
        assert receive_event(connected, "heartbeat_ack")["timestamp"] > 0
