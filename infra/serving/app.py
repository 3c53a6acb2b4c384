"""``tickview serve``: gunicorn, and in each of its processes the API with what it needs."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

import structlog
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from domain.streams import USERS_LOG
from infra.archive.event_history import EventHistory
from infra.composition import (
    Stores,
    open_dead_letters,
    open_intake,
    open_logs,
    redis_url,
)
from infra.postgres.database import Database
from infra.read_models.pattern_queries import RedisPatternQueries
from infra.read_models.queries import (
    RedisActivityQueries,
    RedisBacktestQueries,
    RedisProducerQueries,
    RedisWorkspaceQueries,
)
from infra.recording.counts import flush, uncounted_yet
from infra.recording.intake import Intake
from infra.recording.recorder import Recorder
from infra.redis.connections import CONNECTION_ERRORS, connect, connect_async
from infra.serving.adapters import (
    IntakeMessageRecorder,
    RedisDeadLetterCommands,
    RedisOperations,
    RepositoryWorkspaceCommands,
)
from infra.serving.archive import STATUS_TIMEOUT_SECONDS, ArchiveGateway, ArchiveHistory
from infra.serving.follower import FollowedReadModel, Follower
from infra.serving.pattern_history import PostgresPatternHistory
from infra.serving.replicas import ReplicatedPatterns
from infra.workspaces.repository import WorkspaceRepository
from projections.activity import Activity
from projections.backtests import Backtests
from projections.patterns import ActivePatterns
from projections.producers import Producers
from projections.queries import PatternQueries, WorkspaceQueries
from projections.registry import READ_MODELS
from projections.versions import Build
from projections.workspaces import Workspaces
from readapi.access.guard import Guard

if TYPE_CHECKING:
    from readapi.http.asgi import Lifespan
    from readapi.http.problems import Application
    from readapi.push.hub import Hub

logger = structlog.get_logger()

OpenPatterns = Callable[[AsyncRedis, Build, tuple[str, ...]], PatternQueries]
"""Makes what answers for a build of ``patterns`` where no replica does."""

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that tells ``prometheus_client``, when it is imported, where the processes' metrics come together."""


class ApiProcess:
    """What runs in one API process besides its answers; Falcon middleware for start and end."""

    def __init__(
        self,
        client: Redis,
        connections: Sequence[AsyncRedis],
        database: Database | None,
        follower: Follower,
        push: "Hub",
        intake: Intake,
        show_size: Callable[[], None],
    ) -> None:
        self._client = client
        self._connections = connections
        self._database = database
        self._follower = follower
        self._push = push
        self._intake = intake
        self._show_size = show_size
        self._uncounted = uncounted_yet()
        self._flushing = Lock()
        self._tasks: list[asyncio.Task[None]] = []

    async def process_startup(self, _scope: Mapping[str, Any], _event: Mapping[str, Any]) -> None:
        """Know the live builds before the first answer, if Redis can tell them."""
        self._intake.start()
        with suppress(*CONNECTION_ERRORS):
            await self._follower.load()
        work = (self._follower.follow(), self._push.run(), self._count())
        self._tasks = [_keep_running(one) for one in work]

    async def process_shutdown(self, _scope: Mapping[str, Any], _event: Mapping[str, Any]) -> None:
        """Record what has been taken in."""
        for task in self._tasks:
            task.cancel()
        await asyncio.to_thread(self._intake.close)
        await asyncio.to_thread(self._flush)
        for connection in self._connections:
            await connection.aclose()
        if self._database:
            await asyncio.to_thread(self._database.close)

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._show_size()
            await asyncio.to_thread(self._flush)

    def _flush(self) -> None:
        # The last one waits for one under way: its task was cancelled, but its thread has what was counted.
        with self._flushing:
            flush(self._client, {"http": self._intake.counts}, self._uncounted)


def _keep_running(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task whose failure ends the process, which gunicorn then replaces: better than one that is deaf."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            logger.error("a task of the API ended", exc_info=task.exception())
            os.kill(os.getpid(), signal.SIGTERM)

    task = asyncio.create_task(work)
    task.add_done_callback(ended)
    return task


def build_app(
    stores: Stores,
    guard: Guard,
    recorder: Recorder,
    logs: tuple[str, ...],
    open_patterns: OpenPatterns = RedisPatternQueries,
    *,
    host: "Application | None" = None,
    lifespan: "Callable[[Lifespan], Lifespan]" = lambda process: process,
) -> "Application":
    """The application of one process, or ``host`` with it added. Nothing connects before its start-up.

    ``lifespan`` makes, from what starts and stops the process, what shall see to that.
    """
    # Only now, in the process itself and with METRICS_FOLDER set: that is when prometheus_client opens its files.
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    from infra.serving.catalogue import followed_catalogue
    from readapi.app import create_app
    from readapi.http.read_model import ReadModel
    from readapi.patterns.as_of import PatternHistory
    from readapi.push.hub import Hub
    from readapi.replica.metrics import ReplicaGauges

    settings, client, database = stores.settings, stores.redis, stores.database
    archive = ArchiveGateway(database) if database else None
    glancing = connect(redis_url(settings), seconds=STATUS_TIMEOUT_SECONDS, retries=0)
    asking, waiting = (connect_async(redis_url(settings)) for _ in range(2))
    followed: list[FollowedReadModel[Any]] = []
    follower = Follower(waiting, followed)
    catalogue, parts = followed_catalogue(logs, settings.wait_seconds, follower, lambda: hub.on_catalogue_change())
    followed += parts
    hub = Hub(
        follower,
        catalogue,
        lambda users: workspaces.live.queries.several(users),
        time.time,
        settings.wait_seconds,
        away=CONNECTION_ERRORS,
    )
    listeners = hub.listeners
    intake = open_intake(recorder, settings)
    gauges = ReplicaGauges()
    gathered = CollectorRegistry() if METRICS_FOLDER in os.environ else None
    if gathered:
        MultiProcessCollector(gathered)

    def served(name: str, queries: Callable[..., Any]) -> ReadModel[Any]:
        folded = tuple(filter(READ_MODELS[name].folds, (*logs, USERS_LOG)))
        followed.append(
            FollowedReadModel(
                name,
                READ_MODELS[name].version,
                folded,
                lambda build: queries(asking, build, folded),
                listeners.get(name),
            )
        )
        return ReadModel(name, followed[-1], settings.wait_seconds, family=READ_MODELS[name].family)

    workspaces: ReadModel[WorkspaceQueries] = served(Workspaces.name, RedisWorkspaceQueries)
    patterns = ReplicatedPatterns(
        logs,
        lambda build: open_patterns(asking, build, logs),
        listeners[ActivePatterns.name],
        settings.replica_max_rows,
    )
    followed.append(patterns)

    return create_app(
        patterns=ReadModel(ActivePatterns.name, patterns, settings.wait_seconds, follower),
        backtests=served(Backtests.name, RedisBacktestQueries),
        activity=served(Activity.name, RedisActivityQueries),
        producers=served(Producers.name, RedisProducerQueries),
        catalogue=catalogue,
        workspaces=workspaces,
        pattern_history=PatternHistory(
            PostgresPatternHistory(archive, logs) if archive else None, settings.wait_seconds
        ),
        history=ArchiveHistory(archive, EventHistory(archive.database, open_logs(stores, (*logs, USERS_LOG))))
        if archive
        else None,
        announcements=IntakeMessageRecorder(intake),
        desk=RepositoryWorkspaceCommands(WorkspaceRepository(open_logs(stores, [USERS_LOG])[USERS_LOG], "http")),
        dead_letters=RedisDeadLetterCommands(open_dead_letters(stores), recorder),
        operations=RedisOperations(client, glancing, archive),
        push=hub,
        clock=time.time,
        guard=guard,
        lifespan=lifespan(
            ApiProcess(
                client, (asking, waiting), database, follower, hub, intake, lambda: gauges.show(patterns.replica)
            )
        ),
        away=CONNECTION_ERRORS,
        gathered=gathered,
        host=host,
    )
