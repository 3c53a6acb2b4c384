"""A client of Socket.IO: its subscriptions to the hub, and the task that sends its events."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import orjson
from falcon.asgi import Request

from readapi.http.identities import identity_of, is_admitted
from readapi.http.queued_stream import QueuedStream
from readapi.push.hub import Hub
from readapi.push.subscribers import Subscriber
from readapi.push.subscriptions import Subscription
from readapi.socket_io.events import FRAMINGS, Feed


class Client:
    """One connected client. All its subscriptions share one queue, so that its bounds are those of any client.

    Args:
        sid: The session of Socket.IO.
        req: The request of the handshake, with the identity of the client.
        hub: Live push.
    """

    def __init__(self, sid: str, req: Request, hub: Hub) -> None:
        self.sid = sid
        self.req = req
        self._hub = hub
        self._stream = QueuedStream()
        self._feeds: dict[Feed, ExitStack] = {}
        self._sending: asyncio.Task[None] | None = None
        hub.metrics.connections.labels("socketio").inc()

    async def follow(self, feed: Feed, subscription: Subscription) -> None:
        """Subscribe to a feed. A subscription replaces that of the same feed."""
        user = identity_of(self.req).subject
        subscriber = Subscriber(self._stream, FRAMINGS[feed], subscription, is_admitted(self.req), user)
        self._leave(feed)
        with ExitStack() as stack:
            stack.enter_context(self._hub.connections.opened(user, subscription))
            stack.callback(self._hub.leave, subscriber)
            await self._hub.follow(subscriber, None)
            self._feeds[feed] = stack.pop_all()

    def start(self, send: Callable[[str, Any], Awaitable[None]], end: Callable[[], Awaitable[None]]) -> None:
        """Start to send the events of the client.

        Args:
            send: Sends an event. It waits while the client does not take its events.
            end: Ends the connection.
        """
        self._sending = asyncio.create_task(self._send(send, end))

    async def _send(self, send: Callable[[str, Any], Awaitable[None]], end: Callable[[], Awaitable[None]]) -> None:
        try:
            while (message := await self._stream.take()) is not None:
                for name, data in orjson.loads(message):
                    await send(name, data)
        finally:
            await end()

    def close(self) -> None:
        """Leave the hub: the connection has ended."""
        for feed in list(self._feeds):
            self._leave(feed)
        if self._sending is asyncio.current_task():
            self._stream.close()
        else:
            self._stream.abort()
        self._hub.metrics.connections.labels("socketio").dec()

    def _leave(self, feed: Feed) -> None:
        if feed in self._feeds:
            self._feeds.pop(feed).close()
