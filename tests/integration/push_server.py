"""A server of live push in a thread, for tests that decide which commits it hears of."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
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
from projections.queries import ResultRow, WorkspaceQueries
from projections.versions import Build
from projections.workspaces import WorkspaceRow
from readapi.http.identities import Identity
from readapi.http.problems import handle_errors
from readapi.http.read_model import ReadModel
from readapi.patterns.list_filters import CallerWorkspace
from readapi.ports.commits import Commit, CommitId
from readapi.push.hub import Hub
from readapi.push.resources import PatternSocketResource, PatternStreamResource, SocketResource
from readapi.push.subscription_renewal import WorkspaceSource
from tests.catalogue import CatalogueFixture, symbol
from tests.processes.roles import wait_until
from tests.push import BUILD, commit_of
from tests.queries import row_of


class Store:
    """Whether the store is away, and for how long."""

    away: float | None = None

    def age(self) -> float | None:
        """As Freshness."""
        return self.away


class AwayError(Exception):
    """The workspaces cannot be read."""


class Workspaces:
    """The workspaces as the store has them; while it is away or hangs, nobody can read them."""

    def __init__(self) -> None:
        self.rows: dict[str, WorkspaceRow] = {}
        self.away = False
        self.hangs = False
        self.asked: list[set[str]] = []

    async def get(self, user: str) -> ResultRow[WorkspaceRow] | None:
        """As WorkspaceQueries."""
        row = (await self.get_many([user])).get(user)
        return ResultRow(row, "users", 1) if row else None

    async def get_many(self, users: Collection[str]) -> Mapping[str, WorkspaceRow]:
        """As WorkspaceQueries."""
        self.asked.append(set(users))
        if self.away:
            raise AwayError
        if self.hangs:
            await asyncio.Event().wait()
        return {user: self.rows[user] for user in users if user in self.rows}


class Server:
    """A server in a thread, and the hub in it."""

    def __init__(self, heartbeat_seconds: float) -> None:
        self.store = Store()
        self.registry = CollectorRegistry()
        self.known = CatalogueFixture([symbol("S1", sector="Energy"), symbol("S2", sector="Health")], {"one": ["S1"]})
        self.workspaces = Workspaces()
        self.hub = Hub(
            self.store,
            self.known.catalogue,
            WorkspaceSource(self.workspaces.get_many, (AwayError,)),
            time.time,
            wait_seconds=0.2,
            heartbeat_seconds=heartbeat_seconds,
        )
        followed: LiveReadModel[WorkspaceQueries] = LiveReadModel(
            "workspaces", 1, ("users",), lambda _: self.workspaces
        )
        lists = CallerWorkspace(ReadModel("workspaces", followed, 0, family="users"))
        self.hub.metrics.register(self.registry)
        self.app = app = App()
        app.ws_options.max_receive_queue = 0
        handle_errors(app, (AwayError,))
        app.add_middleware(self)
        app.add_route("/api/patterns/stream", PatternStreamResource(self.hub, lists))
        app.add_route("/ws/patterns", PatternSocketResource(self.hub, lists))
        app.add_route("/ws", SocketResource(self.hub, lists))
        config = uvicorn.Config(
            app,
            **PROTOCOL_OPTIONS,
            log_config=None,
            timeout_graceful_shutdown=3,
        )
        self.server = uvicorn.Server(config)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self.server.run, args=([self._listener],))
        self.loop: asyncio.AbstractEventLoop | None = None

    async def process_startup(self, _scope: Any, _event: Any) -> None:
        """As Lifespan."""
        self.loop = asyncio.get_running_loop()
        self.running = self.loop.create_task(self.hub.run())

    async def process_shutdown(self, _scope: Any, _event: Any) -> None:
        """As Lifespan."""
        self.running.cancel()

    async def process_request(self, req: Request, _resp: Response) -> None:
        """As the guard while TickView is developed."""
        req.context.identity = Identity(req.get_header("X-User-ID") or "anybody", frozenset(("read",)))

    async def process_request_ws(self, req: Request, _ws: WebSocket) -> None:
        """The same."""
        req.context.identity = Identity(req.get_header("X-User-ID") or "anybody", frozenset(("read",)))

    def start(self) -> None:
        self._thread.start()
        wait_until(lambda: self.server.started, "the server answers")

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join()
        self._listener.close()

    def do(self, what: Callable[..., None], *arguments: Any) -> None:
        """In the event loop, and wait until it has been done."""
        done: Future[None] = Future()

        def work() -> None:
            what(*arguments)
            done.set_result(None)

        assert self.loop is not None
        self.loop.call_soon_threadsafe(work)
        done.result(10)

    def begin(self, build: Build = BUILD, *, position: int = 0) -> None:
        for listener in self.hub.listeners.values():
            self.do(listener.start_build, build, {"market-0": CommitId(position)})

    def hear(self, commit: Commit, topic: str = "patterns") -> None:
        self.do(self.hub.listeners[topic].receive, commit)

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"tickview_push_{name}", labels) or 0.0

    def websocket(self, path: str, **options: Any) -> AbstractContextManager[ClientConnection]:
        return connect(f"ws://127.0.0.1:{self.port}{path}", compression=None, max_size=None, **options)

    @contextmanager
    def events(self, query: str = "", **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
        """Server-sent events as they come."""
        url = f"http://127.0.0.1:{self.port}/api/patterns/stream{query}"
        with httpx.stream("GET", url, headers=headers, timeout=20) as response:
            assert response.status_code == 200
            assert response.headers["content-type"] == "text/event-stream"
            yield events_of(response.iter_lines())


def events_of(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
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
def serving(heartbeat_seconds: float = 3_600) -> Iterator[Server]:
    """A server that answers, and has heard of the first build."""
    server = Server(heartbeat_seconds)
    server.start()
    try:
        server.begin()
        wait_until(lambda: server.hub.published["patterns"].build == BUILD, "the hub has begun")
        yield server
    finally:
        server.stop()


def detection_commit(position: int, confidence: float = 0.8, **others: Any) -> tuple[PatternRow, Commit]:
    """Build a new row of ``patterns`` and the commit that writes the row at a position of ``market-0``."""
    row = row_of(f"S{position}", "Doji", "daily", 900.0, confidence, **others)
    return row, commit_of("market-0", position, (row.id, None, row))


def receive(connection: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = orjson.loads(connection.recv(timeout=20))
    return message
