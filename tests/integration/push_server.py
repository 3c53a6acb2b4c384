"""A live-push server in a thread. The tests deliver the commits to its hub."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
import orjson
import uvicorn
from falcon.asgi import App, Request, Response, WebSocket
from prometheus_client import CollectorRegistry
from websockets.sync.client import ClientConnection, connect

from infra.serving.live_read_model import LiveReadModel
from infra.web_server.uvicorn import PROTOCOL_OPTIONS
from projections.patterns import PatternRow
from projections.queries import AnyProjection, ResultRow
from projections.registry import READ_MODELS
from projections.versions import Build
from projections.workspaces import WorkspaceRow, Workspaces
from readapi.http.identities import Identity
from readapi.http.problems import handle_errors
from readapi.http.read_model import ReadModel
from readapi.patterns.list_filters import CallerWorkspace
from readapi.ports.commits import Commit, CommitId
from readapi.ports.errors import UnavailableError
from readapi.push.connections import PushBounds
from readapi.push.hub import Hub, PushTimes
from readapi.push.resources import push_routes
from readapi.push.subscription_renewal import FilterSources
from tests.catalogue import CatalogueFixture, symbol_row
from tests.pattern_queries import pattern_row
from tests.plain_http import PLAIN_HTTP
from tests.processes.roles import wait_until
from tests.push import BUILD, commit_of

FILTERS_CHANGED = "the catalogue or a list has changed, and the filters may select other symbols now"
"""Reason of a reset after a change of the catalogue or of a list."""


UNBOUNDED = PushBounds()
"""The bounds of a server unless a test sets others."""


class StubFreshness:
    """A ``Freshness`` with the age that the test sets."""

    age_seconds: float | None = None

    def age(self) -> float | None:
        """Implement Freshness."""
        return self.age_seconds


class StoreUnavailableError(Exception):
    """The workspaces cannot be read."""


class StubWorkspaceQueries:
    """Workspaces in memory. A test can make the store unavailable, or make its reads hang."""

    def __init__(self) -> None:
        self.rows: dict[str, WorkspaceRow] = {}
        self.unavailable = False
        self.hanging = False
        self.reads: list[set[str]] = []
        """The users whose workspaces each call read."""

    async def get(self, key: str, now: float) -> ResultRow[WorkspaceRow] | None:
        """Implement RowQueries."""
        return next(iter(await self.get_many([key], now)), None)

    async def get_many(self, keys: Collection[str], _now: float) -> Sequence[ResultRow[WorkspaceRow]]:
        """Implement RowQueries."""
        self.reads.append(set(keys))
        if self.unavailable:
            raise StoreUnavailableError
        if self.hanging:
            await asyncio.Event().wait()
        return [ResultRow(self.rows[user], "users", 1, user) for user in keys if user in self.rows]


class UvicornServer(uvicorn.Server):
    """uvicorn with TickView's protocols, or with other options."""

    def __init__(self, app: Any, listener: socket.socket, options: Mapping[str, Any] = PROTOCOL_OPTIONS) -> None:
        super().__init__(uvicorn.Config(app, **options, log_config=None, timeout_graceful_shutdown=3))
        self._listener = listener

    def serve_until_stopped(self) -> None:
        """Serve until ``should_exit`` is true."""
        self.run([self._listener])


class PushServer:
    """A live-push server in a thread, with its hub.

    Args:
        heartbeat_seconds: Seconds between two heartbeats.
        projections: The read models.
        bounds: The bounds of live push.
        open_server: Creates the web server from the application and the listener.
    """

    def __init__(
        self,
        heartbeat_seconds: float,
        projections: Mapping[str, AnyProjection],
        bounds: PushBounds,
        open_server: Callable[[Any, socket.socket], Any] = UvicornServer,
    ) -> None:
        self.freshness = StubFreshness()
        self.registry = CollectorRegistry()
        self.scopes = {"read", "operate"}
        """The scopes of every client."""
        self.catalogue_fixture = CatalogueFixture(
            [symbol_row("S1", sector="Energy"), symbol_row("S2", sector="Health")], {"leaders": ["S1"]}
        )
        self.workspaces = StubWorkspaceQueries()
        queries: Any = self.workspaces
        live_workspaces = LiveReadModel(Workspaces(), ("users",), lambda _build, _logs: queries)
        workspaces: ReadModel[Any] = ReadModel(Workspaces(), live_workspaces, 0)
        self.hub = Hub(
            projections,
            FilterSources(self.catalogue_fixture.catalogue, workspaces, (StoreUnavailableError,)),
            self.freshness,
            time.time,
            bounds,
            PushTimes(0.2, heartbeat_seconds),
        )
        self.hub.metrics.register(self.registry)
        self.app = app = App()
        app.ws_options.max_receive_queue = 0
        handle_errors(app, (StoreUnavailableError,), lambda _: UnavailableError("the store cannot be reached"))
        app.add_middleware(self)
        for path, resource in push_routes(self.hub, CallerWorkspace(workspaces)).items():
            app.add_route(path, resource)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.server = open_server(app, self._listener)
        self._thread = threading.Thread(target=self.server.serve_until_stopped)
        self.loop: asyncio.AbstractEventLoop | None = None

    async def process_startup(self, _scope: Any, _event: Any) -> None:
        """Implement Lifespan."""
        self.loop = asyncio.get_running_loop()
        self._hub_task = self.loop.create_task(self.hub.run())

    async def process_shutdown(self, _scope: Any, _event: Any) -> None:
        """Implement Lifespan."""
        self._hub_task.cancel()

    async def process_request(self, req: Request, _resp: Response) -> None:
        """Identify every caller, as the guard does in development."""
        req.context.identity = Identity(req.get_header("X-User-ID") or "anonymous", frozenset(self.scopes))

    async def process_request_ws(self, req: Request, _ws: WebSocket) -> None:
        """Identify every caller, as the guard does in development."""
        req.context.identity = Identity(req.get_header("X-User-ID") or "anonymous", frozenset(self.scopes))

    def start(self) -> None:
        self._thread.start()
        wait_until(lambda: self.server.started, "the server answers")

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join()
        self._listener.close()

    def run_in_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function in the event loop and wait for its end."""
        finished: Future[None] = Future()

        def call() -> None:
            function(*arguments)
            finished.set_result(None)

        assert self.loop is not None
        self.loop.call_soon_threadsafe(call)
        finished.result(10)

    def start_build(self, build: Build = BUILD, *, position: int = 0) -> None:
        for listener in self.hub.listeners.values():
            self.run_in_loop(listener.start_build, build, {"market-0": CommitId(position)})

    def deliver(self, commit: Commit, topic: str = "patterns") -> None:
        self.run_in_loop(self.hub.listeners[topic].receive, commit)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"tickview_push_{name}", labels) or 0.0

    def websocket(self, path: str, **options: Any) -> AbstractContextManager[ClientConnection]:
        return connect(f"ws://127.0.0.1:{self.port}{path}", compression=None, max_size=None, **options)

    @contextmanager
    def event_stream(
        self, query: str = "", path: str = "/api/patterns/stream", **headers: str
    ) -> Iterator[Iterator[dict[str, Any]]]:
        """Open a stream of server-sent events. Yield an iterator of their messages."""
        url = f"http://127.0.0.1:{self.port}{path}{query}"
        with httpx.stream("GET", url, headers=headers, timeout=20, verify=PLAIN_HTTP) as response:
            assert response.status_code == 200
            assert response.headers["content-type"] == "text/event-stream"
            yield parse_events(response.iter_lines())


def parse_events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Parse server-sent events into messages."""
    event: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
        else:
            message = orjson.loads(event["data"])
            assert message["type"] == event["event"]
            assert message.get("id") == event.get("id")
            event = {}
            yield message


@contextmanager
def running_push_server(
    heartbeat_seconds: float = 3_600,
    projections: Mapping[str, AnyProjection] = READ_MODELS,
    bounds: PushBounds = UNBOUNDED,
    open_server: Callable[[Any, socket.socket], Any] = UvicornServer,
) -> Iterator[PushServer]:
    """Run a live-push server whose hub has received the first build."""
    server = PushServer(heartbeat_seconds, projections, bounds, open_server)
    server.start()
    try:
        server.start_build()
        wait_until(lambda: server.hub.published["patterns"].build == BUILD, "the hub has received the first build")
        yield server
    finally:
        server.stop()


def detection_commit(position: int, confidence: float = 0.8, **others: Any) -> tuple[PatternRow, Commit]:
    """Build a new row of ``patterns`` and the commit that writes the row at a position of ``market-0``."""
    row = pattern_row(f"S{position}", "Doji", "daily", 900.0, confidence, **others)
    return row, commit_of("market-0", position, (row.id, None, row))


def receive(connection: ClientConnection) -> dict[str, Any]:
    """Receive a message from a WebSocket."""
    message: dict[str, Any] = orjson.loads(connection.recv(timeout=20))
    return message


def symbols_in(message: dict[str, Any]) -> list[str]:
    """Return the symbols of the patterns that a ``changes`` message sets."""
    assert message["type"] == "changes", message
    return [change["pattern"]["symbol"] for change in message["changes"]]
