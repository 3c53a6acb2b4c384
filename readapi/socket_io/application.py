"""The Socket.IO server as an ASGI application, at ``/socket.io/``.

Each process sends its own clients what its hub publishes. Other processes of the platform can send to all clients
through the client manager of python-socketio.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import structlog
from falcon.asgi import Request
from socketio import AsyncManager, AsyncServer
from socketio.exceptions import ConnectionRefusedError as RefusedError

from readapi.access.guard import Guard
from readapi.access.origins import check_origin
from readapi.http.client_stream import END_SECONDS
from readapi.http.identities import identity_of
from readapi.http.parameters import parse_parameters
from readapi.http.problems import Problem
from readapi.http.websocket_refusal import refuse_handshake
from readapi.patterns.list_filters import CallerWorkspace, QueryParameters
from readapi.ports.errors import UnavailableError
from readapi.push.hub import Hub
from readapi.push.resources import resolve_subscription
from readapi.push.topics import PATTERNS
from readapi.socket_io.clients import Client
from readapi.socket_io.events import PATTERN_FIELDS, Feed
from readapi.socket_io.subscription_messages import FEEDS, requested_filters

logger = structlog.get_logger()

UPDATE_TOPICS = ("backtests", "producers")
"""The topics of the feed ``updates``."""

CONNECT_SECONDS = 10.0
"""Seconds within which a new session must connect to the namespace, with its token."""

MAX_MESSAGE_BYTES = 65_536
"""Highest number of bytes of a message from a client."""

Start = Callable[[dict[str, Any]], Awaitable[None]]


class SocketIoApplication:
    """The ASGI application.

    Args:
        hub: Live push.
        guard: Authenticates the clients.
        caller_workspace: The workspaces of clients.
        manager: The client manager, which receives the events of other processes.
        start: Starts the process, if it has not started. The argument is an ASGI scope.
    """

    def __init__(
        self, hub: Hub, guard: Guard, caller_workspace: CallerWorkspace, manager: AsyncManager, start: Start
    ) -> None:
        self._hub = hub
        self._guard = guard
        self._caller_workspace = caller_workspace
        self._start = start
        self._clients: dict[str, Client] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_watching = False
        self.server = AsyncServer(
            async_mode="asgi",
            client_manager=manager,
            # Events of one client are handled in order, one at a time.
            async_handlers=False,
            max_http_buffer_size=MAX_MESSAGE_BYTES,
            # ``__call__`` checks the origin.
            cors_allowed_origins=lambda _origin, _environ: True,
            cors_credentials=False,
        )
        self.server.on("connect", self._connect)
        self.server.on("disconnect", self._disconnect)
        self.server.on("heartbeat", self._heartbeat)
        for name, feed in FEEDS.items():
            self.server.on(name, self._subscriber_to(feed))

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve a request or a WebSocket."""
        try:
            self._check(scope)
        except Problem as problem:
            await _refuse(scope, send, problem)
            return
        if not self._is_watching:
            self._is_watching = True
            self._soon(self._end_unconnected())
        await self.server.handle_request(scope, receive, send)

    def _check(self, scope: dict[str, Any]) -> None:
        """Check the client as far as it is known before its token. Raises Problem (400, 403)."""
        req = Request(scope, None)  # type: ignore[arg-type]
        if self._guard.authenticator is None:
            self._guard.admit_connection(req)
        else:
            check_origin(req, self._guard.origins)

    async def _end_unconnected(self) -> None:
        """End the sessions that have not connected to the namespace in time, and so were not admitted."""
        before: set[str] = set()
        while True:
            await asyncio.sleep(CONNECT_SECONDS)
            waiting = {sid for sid in self.server.environ if not self.server.manager.sid_from_eio_sid(sid, "/")}
            for sid in waiting & before:
                self._soon(self._end_session(sid))
            before = waiting

    async def _connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        """Admit a client, with the token in the header or in ``auth`` of the connection."""
        scope: dict[str, Any] = environ["asgi.scope"]
        if isinstance(auth, dict) and isinstance(token := auth.get("token"), str):
            scope = {**scope, "headers": [*scope["headers"], (b"authorization", f"Bearer {token}".encode())]}
        req = Request(scope, None)  # type: ignore[arg-type]
        try:
            self._guard.admit_connection(req)
            await self._start(scope)
            client = Client(sid, req, self._hub)
            self._clients[sid] = client
            await self._follow(client, "updates", {"topics": ",".join(UPDATE_TOPICS)})
        except Problem as problem:
            self._forget(sid)
            raise RefusedError(str(problem), problem.document()) from problem
        except UnavailableError as error:
            self._forget(sid)
            raise RefusedError(str(error)) from error
        client.start(lambda name, data: self._send(sid, name, data), lambda: self._end(sid))
        self._soon(self._confirm_connection(sid, identity_of(req).subject))

    async def _confirm_connection(self, sid: str, user: str) -> None:
        await self._emit(sid, "connection_confirmed", {"sid": sid, "user_id": user, "timestamp": time.time()})

    async def _disconnect(self, sid: str, _reason: str) -> None:
        self._forget(sid)

    def _forget(self, sid: str) -> None:
        client = self._clients.pop(sid, None)
        if client is not None:
            client.close()

    async def _heartbeat(self, sid: str, *_messages: Any) -> dict[str, Any]:
        answer = {"timestamp": time.time()}
        await self._emit(sid, "heartbeat_ack", answer)
        return answer

    def _subscriber_to(self, feed: Feed) -> Callable[..., Awaitable[dict[str, Any]]]:
        known = self._hub.parameters.names_of(PATTERNS) - {"fields", "last_event_id"}

        async def subscribe(sid: str, message: Any = None, *_others: Any) -> dict[str, Any]:
            filters, ignored = requested_filters(feed, message, known)
            parameters = {**filters, "topics": PATTERNS, "fields": ",".join(PATTERN_FIELDS)}
            try:
                await self._follow(self._clients[sid], feed, parameters)
            except (Problem, UnavailableError) as error:
                return await self._refuse_subscription(sid, feed, error)
            confirmation = {"subscription": feed, "filters": filters, "ignored": ignored, "timestamp": time.time()}
            await self._emit(sid, "subscription_confirmed", confirmation)
            return confirmation

        return subscribe

    async def _refuse_subscription(self, sid: str, feed: Feed, error: Problem | UnavailableError) -> dict[str, Any]:
        problem = error.document() if isinstance(error, Problem) else {"detail": str(error)}
        answer = {"subscription": feed, **problem}
        await self._emit(sid, "subscription_error", answer)
        return answer

    async def _follow(self, client: Client, feed: Feed, parameters: QueryParameters) -> None:
        """Subscribe a client. Raises Problem and UnavailableError."""
        query = parse_parameters(self._hub.parameters.model, parameters)
        requested = self._hub.parameters.requested(query, parameters, identity_of(client.req))
        subscription = await resolve_subscription(self._hub, self._caller_workspace, client.req, requested)
        await client.follow(feed, subscription)

    async def _emit(self, sid: str, name: str, data: Any) -> None:
        await self.server.emit(name, data, to=sid, ignore_queue=True)

    async def _send(self, sid: str, name: str, data: Any) -> None:
        """Send an event, and wait until the connection has taken it. The server itself queues without bound."""
        await self._emit(sid, name, data)
        engine_sid = self.server.manager.eio_sid_from_sid(sid, "/")
        engine_socket = self.server.eio.sockets.get(engine_sid)
        if engine_socket is not None:
            await engine_socket.queue.join()

    async def _end(self, sid: str) -> None:
        engine_sid = self.server.manager.eio_sid_from_sid(sid, "/")
        if engine_sid is not None:
            self._soon(self._end_session(engine_sid))

    async def _end_session(self, engine_sid: str) -> None:
        engine_socket = self.server.eio.sockets.get(engine_sid)
        try:
            async with asyncio.timeout(END_SECONDS):
                await self.server.eio.disconnect(engine_sid)
        except TimeoutError:
            # The pings of Engine.IO end the connection of a client that does not read.
            logger.info("a client of Socket.IO does not read the end of its connection")
        if engine_socket is not None:
            # Engine.IO asks the client to close the WebSocket. This entry lets it close the WebSocket itself.
            engine_socket.queue.put_nowait(None)

    def _soon(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _refuse(scope: dict[str, Any], send: Any, problem: Problem) -> None:
    status, headers, body = problem.status.value, problem.encoded_headers(), orjson.dumps(problem.document())
    if scope["type"] == "websocket":
        await refuse_handshake(scope, send, status, headers, body, str(problem))
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
