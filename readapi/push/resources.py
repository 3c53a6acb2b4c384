"""Resources of live push: server-sent events and WebSockets, for the active patterns or for any topics."""

from collections.abc import Sequence
from http import HTTPStatus

from falcon.asgi import Request, Response, WebSocket

from readapi.http.client_stream import MAX_EVENT_ID_LENGTH
from readapi.http.identities import identity_of
from readapi.http.operation import Resource, operation
from readapi.http.problems import Problem, invalid
from readapi.http.websocket_refusal import SUBPROTOCOL
from readapi.patterns.list_filters import CallerWorkspace
from readapi.push.client_connections import event_stream, serve_websocket
from readapi.push.event_ids import parse_id, split_id
from readapi.push.hub import Hub
from readapi.push.pattern_parameters import PatternSubscriptionParameters
from readapi.push.resumption import ResumePoint
from readapi.push.subscription_parameters import RequestedTopic, SubscriptionParameters
from readapi.push.subscriptions import Subscription
from readapi.push.topics import PATTERNS
from readapi.push.updates import event_id_for

LAST_EVENT_ID_HEADER = "Last-Event-ID"
"""Request header that an ``EventSource`` sends when it reconnects."""

WSGI_ENVIRON = "wsgi_environ"
"""Member of the ASGI scope behind a WSGI server. There, an event stream would occupy a thread of the server."""

STREAM_EXAMPLE = """event: ready
id: patterns:4.7/market-0=1234-895635
data: {"type":"ready","id":"patterns:4.7/market-0=1234-895635","resumed":false}

event: changes
id: patterns:4.7/market-0=1235-895636
data: {"type":"changes","topic":"patterns","id":"patterns:4.7/market-0=1235-895636","position":"market-0=1235",\
"changes":[{"op":"remove","id":"AAPL:Weekly_Breakout:daily:1795602656000"}]}

"""
"""The first events of a stream."""

NO_PUSH = (
    "a WSGI server cannot push: for live push, connect to `tickview serve`, or run the application under an ASGI server"
)
"""Why there is no live push behind a WSGI server."""


def _resume_point(event_id: str | None, subscription: Subscription, field: str) -> ResumePoint | None:
    """Parse the client's last event id. Raises Problem (400) that names ``field``."""
    if event_id is None:
        return None
    positions, filters_digest = split_id(event_id)
    try:
        return ResumePoint(parse_id(positions, [each.topic.name for each in subscription]), filters_digest)
    except ValueError as error:
        raise invalid([{"field": field, "reason": str(error)}]) from error


def _check_id_length(hub: Hub, subscription: Subscription) -> None:
    """Check that the client can send back the ids of its messages. Raises Problem (400).

    The positions in an id have more digits later. Half of the allowed length leaves room for them.
    """
    length, longest = len(event_id_for(subscription, hub.published)), MAX_EVENT_ID_LENGTH // 2
    if length > longest:
        reason = (
            f"are too many for one connection: the ids of their messages have {length} characters, and at most "
            f"{longest} are allowed; use a connection for each of them"
        )
        raise invalid([{"field": "topics", "reason": reason}])


class _PushResource(Resource):
    """Base of all resources of live push. Messages from WebSocket clients are ignored."""

    def __init__(self, hub: Hub, caller_workspace: CallerWorkspace) -> None:
        self._hub = hub
        self._caller_workspace = caller_workspace

    async def stream(
        self, req: Request, resp: Response, requested: Sequence[RequestedTopic], last_event_id: str | None
    ) -> None:
        """Send server-sent events until the client disconnects or is dropped. Raises Problem and UnavailableError."""
        if WSGI_ENVIRON in req.scope:
            raise Problem(HTTPStatus.NOT_IMPLEMENTED, "no-live-push", NO_PUSH)
        header = req.get_header(LAST_EVENT_ID_HEADER)
        field, event_id = (LAST_EVENT_ID_HEADER, header) if header else ("last_event_id", last_event_id)
        subscription = await resolve_subscription(self._hub, self._caller_workspace, req, requested)
        resume_point = _resume_point(event_id, subscription, field)
        # Falcon sets the content type of a stream, but not in the answer to HEAD, which has no stream.
        resp.content_type = "text/event-stream"
        resp.set_header("Cache-Control", "no-store")
        # Without this header, nginx holds events back until they fill a buffer.
        resp.set_header("X-Accel-Buffering", "no")
        resp.sse = event_stream(self._hub, req, subscription, resume_point)

    async def serve(
        self, req: Request, ws: WebSocket, requested: Sequence[RequestedTopic], last_event_id: str | None
    ) -> None:
        """Accept the WebSocket and send messages until it is closed. Raises Problem before it is accepted."""
        subscription = await resolve_subscription(self._hub, self._caller_workspace, req, requested)
        resume_point = _resume_point(last_event_id, subscription, "last_event_id")
        # A browser that offers subprotocols, to send a token, closes the connection if the server selects none.
        await ws.accept(SUBPROTOCOL if SUBPROTOCOL in ws.subprotocols else None)
        await serve_websocket(self._hub, req, ws, subscription, resume_point)


async def resolve_subscription(
    hub: Hub, caller_workspace: CallerWorkspace, req: Request, requested: Sequence[RequestedTopic]
) -> Subscription:
    """Resolve the subscription of a request. Raises Problem (400, 429, 504) and UnavailableError."""
    needs_workspace = any(query.needs_workspace for _, query, _ in requested)
    workspace = await caller_workspace.read(req) if needs_workspace else None
    subscription = tuple(
        query.subscription(topic, parameters, hub.catalogue, workspace) for topic, query, parameters in requested
    )
    _check_id_length(hub, subscription)
    hub.connections.check(identity_of(req).subject, subscription)
    return subscription


class _PatternResource(_PushResource):
    """Base of the resources of the active patterns."""

    def requested(self, req: Request, query: PatternSubscriptionParameters) -> list[RequestedTopic]:
        """Return the single requested topic."""
        return [RequestedTopic(self._hub.topics[PATTERNS], query, req.params)]


class PatternStreamResource(_PatternResource):
    """Changes of the active patterns as server-sent events."""

    @operation(
        "Stream live changes of the active patterns as server-sent events.",
        scope="read",
        responses={200: "text/event-stream"},
        query=PatternSubscriptionParameters,
        example=STREAM_EXAMPLE,
        problems=(503, 504),
        is_stream=True,
    )
    async def on_get(self, req: Request, resp: Response, query: PatternSubscriptionParameters) -> None:
        """Send events until the client disconnects or is dropped."""
        await self.stream(req, resp, self.requested(req, query), query.last_event_id)


class PatternSocketResource(_PatternResource):
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
        await self.serve(req, ws, self.requested(req, query), query.last_event_id)


def push_routes(hub: Hub, caller_workspace: CallerWorkspace) -> dict[str, object]:
    """Return the resources of live push by path.

    Args:
        hub: Live push. Its topics determine the parameters of ``/api/stream`` and ``/ws``.
        caller_workspace: The workspaces of clients.
    """
    parameters = hub.parameters

    class StreamResource(_PushResource):
        """Changes of several topics as server-sent events."""

        @operation(
            "Stream live changes of read models as server-sent events.",
            scope="read",
            responses={200: "text/event-stream"},
            query=parameters.model,
            example=STREAM_EXAMPLE,
            problems=(503, 504),
            is_stream=True,
        )
        async def on_get(self, req: Request, resp: Response, query: SubscriptionParameters) -> None:
            """Send events until the client disconnects or is dropped."""
            requested = parameters.requested(query, req.params, identity_of(req))
            await self.stream(req, resp, requested, query.last_event_id)

    class SocketResource(_PushResource):
        """Changes of several topics over a WebSocket."""

        @operation(
            "Receive live changes of read models over a WebSocket.",
            scope="read",
            responses={},
            query=parameters.model,
            is_stream=True,
        )
        async def on_websocket(self, req: Request, ws: WebSocket, query: SubscriptionParameters) -> None:
            """Send messages until the connection is closed."""
            requested = parameters.requested(query, req.params, identity_of(req))
            await self.serve(req, ws, requested, query.last_event_id)

    return {
        "/api/patterns/stream": PatternStreamResource(hub, caller_workspace),
        "/api/stream": StreamResource(hub, caller_workspace),
        "/ws/patterns": PatternSocketResource(hub, caller_workspace),
        "/ws": SocketResource(hub, caller_workspace),
    }
