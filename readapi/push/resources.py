"""Resources of live push: ``/api/patterns/stream`` (SSE), ``/ws/patterns`` and ``/ws`` (WebSocket)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from falcon import PayloadTypeError, WebSocketDisconnected
from falcon.asgi import Request, Response, SSEvent, WebSocket

from readapi.access.guard import SUBPROTOCOL
from readapi.http.client_stream import Stream, stream_of
from readapi.http.identities import is_admitted
from readapi.http.operation import Resource, operation
from readapi.http.problems import invalid
from readapi.patterns.list_filters import CallerWorkspace
from readapi.push.event_ids import parse_id, split_id
from readapi.push.hub import Hub
from readapi.push.resumption import ResumePoint
from readapi.push.subscribers import Subscriber, Transport
from readapi.push.subscription_parameters import PatternSubscriptionParameters, SubscriptionParameters
from readapi.push.subscriptions import Subscription

LAST_EVENT_ID_HEADER = "Last-Event-ID"
"""Request header that an ``EventSource`` sends when it reconnects."""


def _resume_point(event_id: str | None, subscription: Subscription, field: str) -> ResumePoint | None:
    """Parse the client's last event id. Raises Problem (400) that names ``field``."""
    if event_id is None:
        return None
    positions, filters_digest = split_id(event_id)
    try:
        return ResumePoint(parse_id(positions, [topic for topic, _ in subscription]), filters_digest)
    except ValueError as error:
        raise invalid([{"field": field, "reason": str(error)}]) from error


@contextmanager
def _connected(
    hub: Hub, req: Request, stream: Stream, transport: Transport, subscription: Subscription
) -> Iterator[Subscriber]:
    """Open the stream of a client, count the connection, and let the client leave the hub at the end."""
    subscriber = Subscriber(stream, transport, subscription, is_admitted(req))
    connections = hub.metrics.connections.labels(transport)
    connections.inc()
    stream.open()
    try:
        yield subscriber
    finally:
        hub.leave(subscriber)
        connections.dec()


class _PushResource:
    """Base of all resources of live push."""

    def __init__(self, hub: Hub, caller_workspace: CallerWorkspace) -> None:
        self._hub = hub
        self._caller_workspace = caller_workspace

    async def subscription(self, req: Request, query: PatternSubscriptionParameters) -> Subscription:
        """Resolve the subscription of a request. Raises Problem (400, 504) and UnavailableError."""
        workspace = await self._caller_workspace.read(req) if query.needs_workspace else None
        return query.subscription(req.params, self._hub.catalogue, workspace)


class PatternStreamResource(_PushResource, Resource):
    """Changes of the active patterns as server-sent events."""

    @operation(
        "Stream live changes of the active patterns as server-sent events.",
        scope="read",
        responses={200: "text/event-stream"},
        query=PatternSubscriptionParameters,
        problems=(503, 504),
        is_stream=True,
    )
    async def on_get(self, req: Request, resp: Response, query: PatternSubscriptionParameters) -> None:
        """Send events until the client disconnects or is dropped."""
        header = req.get_header(LAST_EVENT_ID_HEADER)
        field, event_id = (LAST_EVENT_ID_HEADER, header) if header else ("last_event_id", query.last_event_id)
        subscription = await self.subscription(req, query)
        resume_point = _resume_point(event_id, subscription, field)
        resp.set_header("Cache-Control", "no-store")
        # Without this header, nginx holds events back until they fill a buffer.
        resp.set_header("X-Accel-Buffering", "no")
        resp.sse = _EventStream(self._hub, req, stream_of(req), subscription, resume_point)


@dataclass(frozen=True)
class _EventStream:
    """An iterator for Falcon that yields no event and ends with the connection.

    The hub writes the events directly to the stream, past Falcon.
    """

    hub: Hub
    req: Request
    stream: Stream
    subscription: Subscription
    resume_point: ResumePoint | None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SSEvent:
        with _connected(self.hub, self.req, self.stream, "sse", self.subscription) as subscriber:
            await self.hub.follow(subscriber, self.resume_point)
            await self.stream.wait_ended()
        raise StopAsyncIteration


class _SocketResource(_PushResource):
    """Base of the WebSocket resources. Messages from clients are ignored."""

    async def _serve(self, req: Request, ws: WebSocket, query: PatternSubscriptionParameters) -> None:
        """Accept the WebSocket and send messages until it is closed. Raises Problem before it is accepted."""
        subscription = await self.subscription(req, query)
        resume_point = _resume_point(query.last_event_id, subscription, "last_event_id")
        stream = stream_of(req)
        # A browser that offers subprotocols, to send a token, closes the connection if the server selects none.
        await ws.accept(SUBPROTOCOL if SUBPROTOCOL in ws.subprotocols else None)
        with _connected(self._hub, req, stream, "websocket", subscription) as subscriber:
            await self._hub.follow(subscriber, resume_point)
            await _wait_until_closed(ws)


async def _wait_until_closed(ws: WebSocket) -> None:
    while True:
        try:
            await ws.receive_text()
        except PayloadTypeError:
            pass
        except WebSocketDisconnected:
            return


class PatternSocketResource(_SocketResource):
    """Changes of the active patterns over a WebSocket."""

    @operation(
        "Receive live changes of the active patterns over a WebSocket.",
        scope="read",
        responses={},
        query=PatternSubscriptionParameters,
        is_stream=True,
    )
    async def on_websocket(self, req: Request, ws: WebSocket, query: PatternSubscriptionParameters) -> None:
        """Send messages until the connection is closed."""
        await self._serve(req, ws, query)


class SocketResource(_SocketResource):
    """Changes of several topics over a WebSocket."""

    @operation(
        "Receive live changes of several topics over a WebSocket.",
        scope="read",
        responses={},
        query=SubscriptionParameters,
        is_stream=True,
    )
    async def on_websocket(self, req: Request, ws: WebSocket, query: SubscriptionParameters) -> None:
        """Send messages until the connection is closed."""
        await self._serve(req, ws, query)
