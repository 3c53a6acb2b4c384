"""Connections of clients to live push: each of them follows the hub until its end.

Under TickView's own web server, the hub writes to the socket. Under every other server, the task of the connection
sends the messages that the hub puts into a queue.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

from falcon import PayloadTypeError, WebSocketDisconnected
from falcon.asgi import Request, SSEvent, WebSocket

from readapi.http.client_stream import Stream, find_socket_stream
from readapi.http.identities import identity_of, is_admitted
from readapi.http.queued_stream import QueuedStream
from readapi.push.hub import Hub
from readapi.push.messages import Framing, event, event_chunk, websocket_frame, websocket_text
from readapi.push.resumption import ResumePoint
from readapi.push.subscribers import Subscriber
from readapi.push.subscriptions import Subscription

Transport = Literal["sse", "websocket"]
SOCKET_FRAMINGS: dict[Transport, Framing] = {"sse": event_chunk, "websocket": websocket_frame}
QUEUE_FRAMINGS: dict[Transport, Framing] = {"sse": event, "websocket": websocket_text}


class EncodedEvent(SSEvent):
    """An encoded server-sent event for Falcon."""

    def __init__(self, encoded: bytes) -> None:
        self.encoded = encoded

    def serialize(self, handler: Any = None) -> bytes:
        """Return the event as it is."""
        del handler
        return self.encoded


async def event_stream(
    hub: Hub, req: Request, subscription: Subscription, resume_point: ResumePoint | None
) -> AsyncIterator[SSEvent | None]:
    """Follow the hub until the client disconnects or is dropped. Yield the events that the hub does not write itself.

    Falcon notices a client that has disconnected when it sends the next event, which is a heartbeat at the latest.
    """
    socket_stream = find_socket_stream(req)
    if socket_stream is not None:
        socket_stream.open()
        with _connected(hub, req, socket_stream, "sse", subscription) as subscriber:
            await hub.follow(subscriber, resume_point)
            await socket_stream.wait_ended()
        return
    stream = QueuedStream()
    following = asyncio.create_task(_follow(hub, req, stream, "sse", subscription, resume_point))
    try:
        while (message := await stream.take()) is not None:
            yield EncodedEvent(message)
        _raise_failure(following)
    finally:
        stream.close()


async def serve_websocket(
    hub: Hub, req: Request, ws: WebSocket, subscription: Subscription, resume_point: ResumePoint | None
) -> None:
    """Let an accepted WebSocket follow the hub until the client disconnects or is dropped."""
    socket_stream = find_socket_stream(req)
    if socket_stream is not None:
        socket_stream.open()
        with _connected(hub, req, socket_stream, "websocket", subscription) as subscriber:
            await hub.follow(subscriber, resume_point)
            await _wait_until_closed(ws)
        return
    stream = QueuedStream()
    following = asyncio.create_task(_follow(hub, req, stream, "websocket", subscription, resume_point))
    tasks = {asyncio.create_task(_send_messages(ws, stream)), asyncio.create_task(_wait_until_closed(ws))}
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        _raise_failure(following, *(task for task in ended if not task.cancelled()))
    finally:
        stream.close()
        for task in tasks:
            task.cancel()


async def _follow(
    hub: Hub,
    req: Request,
    stream: QueuedStream,
    transport: Transport,
    subscription: Subscription,
    resume_point: ResumePoint | None,
) -> None:
    """Follow the hub until the stream is closed.

    This is a task of its own. The sender may be cancelled, or never continue.
    """
    try:
        with _connected(hub, req, stream, transport, subscription) as subscriber:
            await hub.follow(subscriber, resume_point)
            await stream.wait_closed()
    finally:
        stream.close()


@contextmanager
def _connected(
    hub: Hub, req: Request, stream: Stream, transport: Transport, subscription: Subscription
) -> Iterator[Subscriber]:
    """Count the connection, and let the client leave the hub at the end."""
    framings = QUEUE_FRAMINGS if isinstance(stream, QueuedStream) else SOCKET_FRAMINGS
    user = identity_of(req).subject
    subscriber = Subscriber(stream, framings[transport], subscription, is_admitted(req), user)
    connections = hub.metrics.connections.labels(transport)
    connections.inc()
    try:
        with hub.connections.opened(user, subscription):
            yield subscriber
    finally:
        hub.leave(subscriber)
        connections.dec()


async def _send_messages(ws: WebSocket, stream: QueuedStream) -> None:
    with suppress(WebSocketDisconnected):
        while (message := await stream.take()) is not None:
            await ws.send_text(message.decode())
        await ws.close(stream.close_code, stream.close_reason)


async def _wait_until_closed(ws: WebSocket) -> None:
    while True:
        try:
            await ws.receive_text()
        except PayloadTypeError:
            pass
        except WebSocketDisconnected:
            return


def _raise_failure(*tasks: asyncio.Task[None]) -> None:
    """Raise the failure of the first task that has failed, if there is one."""
    for task in tasks:
        if task.done():
            task.result()
