"""``/api/patterns/stream`` (SSE), ``/ws/patterns`` and ``/ws`` (WebSocket): what clients connect to."""

from collections.abc import Iterator
from contextlib import contextmanager
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
from readapi.push.hub import Hub, ResumePoint
from readapi.push.subscribers import Subscriber, Transport
from readapi.push.subscription_parameters import PatternSubscriptionParameters, SubscriptionParameters
from readapi.push.subscriptions import Subscription

LAST_EVENT_ID_HEADER = "Last-Event-ID"


def _since(given: str | None, interests: Subscription, field: str) -> ResumePoint | None:
    """Where the client is; None if it does not say so. Raises Problem (400)."""
    if given is None:
        return None
    places, meaning = split_id(given)
    try:
        return ResumePoint(parse_id(places, [topic for topic, _ in interests]), meaning)
    except ValueError as error:
        raise invalid([{"field": field, "reason": str(error)}]) from error


@contextmanager
def _connected(
    hub: Hub, req: Request, stream: Stream, transport: Transport, interests: Subscription
) -> Iterator[Subscriber]:
    """A client, as long as it is connected."""
    subscriber = Subscriber(stream, transport, interests, is_admitted(req))
    connections = hub.metrics.connections.labels(transport)
    connections.inc()
    stream.open()
    try:
        yield subscriber
    finally:
        hub.leave(subscriber)
        connections.dec()


class _PushResource:
    """Whatever tells changes."""

    def __init__(self, hub: Hub, lists: CallerWorkspace) -> None:
        self._hub = hub
        self._lists = lists

    async def interests(self, req: Request, query: PatternSubscriptionParameters) -> Subscription:
        """What is asked for. Raises Problem (400, 504), UnavailableError."""
        own = await self._lists.read(req) if query.names_lists else None
        return query.interests(req.params, self._hub.catalogue, own)


class PatternStreamResource(_PushResource, Resource):
    """Changes of patterns as server-sent events."""

    @operation(
        "Live changes of the active patterns, as server-sent events that can be resumed",
        scope="read",
        responses={200: "text/event-stream"},
        query=PatternSubscriptionParameters,
        problems=(503, 504),
        is_stream=True,
    )
    async def on_get(self, req: Request, resp: Response, query: PatternSubscriptionParameters) -> None:
        """Events until the client has enough, or is too slow."""
        header = req.get_header(LAST_EVENT_ID_HEADER)
        field, given = (LAST_EVENT_ID_HEADER, header) if header else ("last_event_id", query.last_event_id)
        interests = await self.interests(req, query)
        resp.set_header("Cache-Control", "no-store")
        # Or nginx would gather events until they fill a buffer.
        resp.set_header("X-Accel-Buffering", "no")
        resp.sse = _Events(self._hub, req, stream_of(req), interests, _since(given, interests, field))


class _Events:
    """What Falcon iterates over: no events, which are written to the stream, and the end when that ends."""

    def __init__(
        self, hub: Hub, req: Request, stream: Stream, interests: Subscription, since: ResumePoint | None
    ) -> None:
        self._hub = hub
        self._req = req
        self._stream = stream
        self._interests = interests
        self._since = since

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SSEvent:
        with _connected(self._hub, self._req, self._stream, "sse", self._interests) as subscriber:
            await self._hub.follow(subscriber, self._since)
            await self._stream.wait_ended()
        raise StopAsyncIteration


class _SocketResource(_PushResource):
    """A WebSocket on which changes are told; what its client sends is ignored."""

    async def _live(self, req: Request, ws: WebSocket, query: PatternSubscriptionParameters) -> None:
        """Messages until one of the two closes it. Raises Problem before it is accepted."""
        interests = await self.interests(req, query)
        since = _since(query.last_event_id, interests, "last_event_id")
        stream = stream_of(req)
        # Who has offered a token as a protocol hangs up if none is chosen.
        await ws.accept(SUBPROTOCOL if SUBPROTOCOL in ws.subprotocols else None)
        with _connected(self._hub, req, stream, "websocket", interests) as subscriber:
            await self._hub.follow(subscriber, since)
            await _until_closed(ws)


async def _until_closed(ws: WebSocket) -> None:
    while True:
        try:
            await ws.receive_text()
        except PayloadTypeError:
            pass
        except WebSocketDisconnected:
            return


class PatternSocketResource(_SocketResource):
    """Changes of patterns."""

    @operation(
        "Live changes of the active patterns",
        scope="read",
        responses={},
        query=PatternSubscriptionParameters,
        is_stream=True,
    )
    async def on_websocket(self, req: Request, ws: WebSocket, query: PatternSubscriptionParameters) -> None:
        """Messages until one of the two closes it."""
        await self._live(req, ws, query)


class SocketResource(_SocketResource):
    """Changes of several read models."""

    @operation(
        "Live changes of several read models", scope="read", responses={}, query=SubscriptionParameters, is_stream=True
    )
    async def on_websocket(self, req: Request, ws: WebSocket, query: SubscriptionParameters) -> None:
        """Messages until one of the two closes it."""
        await self._live(req, ws, query)
