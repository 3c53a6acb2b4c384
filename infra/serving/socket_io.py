"""Composition of Socket.IO in one API process."""

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from infra.redis.connections import connect_async
from infra.serving.session_relay import SessionRelay
from readapi.access.guard import Guard
from readapi.http.asgi import AsgiApplication
from readapi.patterns.list_filters import CallerWorkspace
from readapi.push.hub import Hub

CHANNEL = "tickview.socketio"
"""Redis channel over which other processes of the platform send events to all clients."""


def is_installed() -> bool:
    """Return whether the extra ``socketio`` is installed."""
    return find_spec("socketio") is not None


def open_socket_io(
    hub: Hub,
    guard: Guard,
    caller_workspace: CallerWorkspace,
    redis_url: str,
    start: Callable[[dict[str, Any]], Awaitable[None]],
    folder: Path | None,
) -> AsgiApplication:
    """Create the Socket.IO server of a process. Nothing connects before its first client.

    Args:
        hub: Live push.
        guard: Authenticates the clients.
        caller_workspace: The workspaces of clients.
        redis_url: The URL of Redis.
        start: Starts the process, if it has not started.
        folder: The folder of the processes that share the listener. None if this is the only process.
    """
    from readapi.socket_io.application import SocketIoApplication

    application = SocketIoApplication(hub, guard, caller_workspace, _open_manager(redis_url), start)
    if folder is None:
        return application
    relay = SessionRelay(application, folder)
    engine = application.server.eio
    generate_id = engine.generate_id
    engine.generate_id = lambda: relay.session_prefix() + generate_id()
    return relay


def _open_manager(redis_url: str) -> Any:
    """Return the client manager, through which other processes of the platform send events."""
    from socketio import AsyncRedisManager

    class Manager(AsyncRedisManager):  # type: ignore[misc]
        """A client manager on any kind of Redis that TickView supports."""

        def _redis_connect(self) -> None:
            self.redis = connect_async(redis_url, seconds=None)
            self.pubsub = self.redis.pubsub(ignore_subscribe_messages=True)
            self.connected = True

    return Manager(redis_url, channel=CHANNEL)
