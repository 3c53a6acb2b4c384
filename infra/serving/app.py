"""Composition of the API in one process: adapters, live read models, live push, and the Falcon application.

This module imports ``prometheus_client``, which reads the folder of its files when it is imported. ``tickview serve``
therefore names the folder first (``infra/serving/server.py``).
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from redis.exceptions import RedisError

from domain.streams import OPERATIONS_LOG, USERS_LOG
from infra.alerts.addresses import AddressPolicy
from infra.composition import Stores, check_partitions, open_intake, redis_url
from infra.log.clock import LogClock
from infra.operations.journal import Journal
from infra.recording.intake import Intake
from infra.redis.connections import CONNECTION_ERRORS, AsyncRedisClient, connect, connect_async
from infra.serving.alerts import AsyncWebhooks
from infra.serving.archive import STATUS_TIMEOUT_SECONDS, ArchiveGateway, ArchiveHistory, ArchiveServers
from infra.serving.auditor import ArchiveAuditor
from infra.serving.blocking_calls import unavailability
from infra.serving.changes_follower import ChangesFollower
from infra.serving.dead_letters import AsyncDeadLetters
from infra.serving.freshness import RedisFreshness
from infra.serving.lifespan import ApiLifespan, BackgroundWork, Connections
from infra.serving.live_read_model import LiveReadModel
from infra.serving.message_recorder import AsyncMessageRecorder
from infra.serving.metric_files import MergedProcesses
from infra.serving.operations import RedisOperations
from infra.serving.replicas import ReplicatedReadModel
from infra.serving.row_history import PostgresHistory
from infra.serving.service import METRICS_FOLDER_VARIABLE, Service
from infra.serving.socket_io import is_installed, open_socket_io
from infra.serving.workspace_commands import AsyncWorkspaceCommands
from infra.settings import Settings
from infra.tracing.selection import hub_class, request_tracing
from infra.user_keys.key_store import UserKeys
from infra.workspaces.repository import WorkspaceRepository
from projections.base import Projection
from projections.queries import RowQueries
from projections.registry import READ_MODELS
from projections.symbols import Symbols
from projections.universes import Universes
from projections.versions import Build
from projections.workspaces import Workspaces
from readapi.app import ArchivePorts, Ports, ReadModels, Runtime, create_app
from readapi.catalogue.filters import Catalogue
from readapi.compatibility.tickstock.shown_values import shown_values
from readapi.http.asgi import Lifespan
from readapi.http.mounting import DocumentedApplication, starter
from readapi.http.problems import Application
from readapi.http.read_model import ReadModel
from readapi.patterns.list_filters import CallerWorkspace
from readapi.ports.commands import Commands
from readapi.push.connections import PushBounds
from readapi.push.hub import Hub, PushTimes
from readapi.push.subscription_renewal import FilterSources
from readapi.read_models.as_of import RowHistory
from readapi.replica.metrics import ReplicaGauges

CATALOGUE = (Symbols.name, Universes.name)
"""The read models of the catalogue. The API derives the members of sectors and universes from all of their rows."""

MAX_ROWS = 1_000_000
"""Highest number of rows of a read model that only replicas answer. Beyond, requests for it are refused."""

LiveReadModels = Mapping[str, LiveReadModel]
"""The live builds of all read models by name."""


def build_app(
    service: Service,
    host: Application | None = None,
    wrap_lifespan: Callable[[Lifespan], Lifespan] = lambda lifespan: lifespan,
    session_folder: Path | None = None,
) -> Application:
    """Build the application of one process. Nothing connects before its start.

    Args:
        service: The parts that all processes have in common.
        host: An application that gets all routes. None to create an application.
        wrap_lifespan: Wraps the middleware that starts and stops the process.
        session_folder: A folder for the processes that share the listener. None if this is the only process.
    """
    connections = connect_process(service)
    freshness = RedisFreshness()
    live = open_live_read_models(service, connections.queries)
    read_models = open_read_models(live, freshness, service.stores.settings.wait_seconds)
    hub = open_hub(live, read_models, freshness, service.stores.settings)
    follower = ChangesFollower(connections.changes, live.values(), freshness)
    intake = open_intake(service.recorder, service.stores.settings)
    log_clock = LogClock(connections.commands, service.logs)
    ports = open_ports(service, read_models, intake, log_clock)
    gauges = ReplicaGauges()
    lifespan = ApiLifespan(
        connections,
        BackgroundWork(intake, follower, hub, log_clock),
        service.logs,
        lambda: check_partitions(service.stores),
        lambda: show_replicas(gauges, live),
    )
    runtime = Runtime(
        wrap_lifespan(lifespan),
        (RedisError,),
        unavailability,
        compatibility=service.stores.settings.compatibility,
        process_registry=open_process_registry(),
        tracing=request_tracing(),
    )
    app = create_app(ports, hub, service.guard, runtime, host)
    if isinstance(app, DocumentedApplication) and is_installed():
        url, workspace = redis_url(service.stores.settings), CallerWorkspace(read_models[Workspaces.name])
        start = starter(runtime.lifespan)
        app.socket_io = open_socket_io(hub, service.guard, workspace, url, start, session_folder)
    return app


def show_replicas(gauges: ReplicaGauges, live: LiveReadModels) -> None:
    """Set the metrics of all replicas."""
    for name, model in live.items():
        if isinstance(model, ReplicatedReadModel):
            gauges.show(name, model.replica)


def connect_process(service: Service) -> Connections:
    """Create the connections of this process."""
    stores = service.stores
    url = redis_url(stores.settings)
    return Connections(
        commands=stores.redis,
        queries=connect_async(url),
        changes=connect_async(url),
        databases=[database for database in (stores.database, stores.standby) if database],
    )


def open_live_read_models(service: Service, client: AsyncRedisClient) -> LiveReadModels:
    """Create the live builds. They are empty until the follower loads them."""
    return {name: _open_live(service, client, projection) for name, projection in READ_MODELS.items()}


def _open_live(service: Service, client: AsyncRedisClient, projection: Projection[Any, Any]) -> LiveReadModel:
    logs = tuple(filter(projection.folds, service.logs))

    def open_queries(build: Build, logs: Sequence[str]) -> RowQueries[Any]:
        return service.open_queries(client, projection, build, logs)

    if not projection.has_replica:
        return LiveReadModel(projection, logs, open_queries)
    only_replica_answers = projection.merges() or projection.name in CATALOGUE
    max_rows = MAX_ROWS if only_replica_answers else service.stores.settings.replica_max_rows
    return ReplicatedReadModel(projection, logs, open_queries, max_rows)


def open_read_models(live: LiveReadModels, freshness: RedisFreshness, wait_seconds: float) -> ReadModels:
    """Create the read models of the API over the live builds.

    Only answers from memory can be stale, and so only the replicated read models have a freshness. The others do not
    answer while Redis is unavailable.
    """
    return {
        name: ReadModel(projection, live[name], wait_seconds, freshness if projection.has_replica else None)
        for name, projection in READ_MODELS.items()
    }


def open_hub(live: LiveReadModels, read_models: ReadModels, freshness: RedisFreshness, settings: Settings) -> Hub:
    """Create live push, and register it with the live builds whose changes it sends or depends on."""
    catalogue = Catalogue(*(read_models[name] for name in CATALOGUE))
    sources = FilterSources(
        catalogue, read_models[Workspaces.name], CONNECTION_ERRORS, shown_values(settings.compatibility)
    )
    bounds = PushBounds(
        unsent_bytes=settings.push_unsent_bytes,
        connections=settings.push_connections if settings.authenticates else 0,
        filters=settings.push_filters,
    )
    hub = hub_class()(READ_MODELS, sources, freshness, time.time, bounds, PushTimes(settings.wait_seconds))
    for name, listener in hub.listeners.items():
        live[name].add_commit_listener(listener)
    for name in CATALOGUE:
        live[name].add_move_listener(hub.on_catalogue_change)
    return hub


def open_ports(service: Service, read_models: ReadModels, intake: Intake, log_clock: LogClock) -> Ports:
    """Create the adapters behind the ports of the API."""
    stores = service.stores
    users = service.logs[USERS_LOG]
    journal = Journal(service.logs[OPERATIONS_LOG], "http")
    archive = open_archive_servers(stores)
    health_client = connect(redis_url(stores.settings), seconds=STATUS_TIMEOUT_SECONDS, retries=0)
    return Ports(
        read_models=read_models,
        archive=open_archive_ports(service, archive, log_clock, journal),
        commands=Commands(
            messages=AsyncMessageRecorder(intake),
            dead_letters=AsyncDeadLetters(service.dead_letters, service.recorder, journal),
            workspaces=AsyncWorkspaceCommands(WorkspaceRepository(users, "http")),
            webhooks=AsyncWebhooks(AddressPolicy(stores.settings.alert_private_addresses), UserKeys(users)),
        ),
        operations=RedisOperations(stores.redis, health_client, archive, service.code, stores.settings, journal),
    )


def open_archive_servers(stores: Stores) -> ArchiveServers | None:
    """Create the gateways to the servers of the archive. None without an archive."""
    if stores.database is None:
        return None
    return ArchiveServers(
        ArchiveGateway(stores.database), ArchiveGateway(stores.standby, "standby") if stores.standby else None
    )


def open_archive_ports(
    service: Service, archive: ArchiveServers | None, log_clock: LogClock, journal: Journal
) -> ArchivePorts:
    """Create the adapters that read and verify the past."""
    stores = service.stores
    wait_seconds = stores.settings.wait_seconds
    histories = {
        name: RowHistory(
            projection.history,
            PostgresHistory(archive, projection, service.logs) if archive else None,
            wait_seconds,
            log_clock.now,
        )
        for name, projection in READ_MODELS.items()
        if projection.history
    }
    return ArchivePorts(
        histories=histories,
        history=ArchiveHistory(archive, service.logs) if archive else None,
        auditor=ArchiveAuditor(archive.primary, stores.redis, journal, stores.settings) if archive else None,
    )


def open_process_registry() -> CollectorRegistry | None:
    """Return the registry that merges the metrics of all processes. None if this is the only process."""
    if METRICS_FOLDER_VARIABLE not in os.environ:
        return None
    registry = CollectorRegistry()
    registry.register(MergedProcesses(Path(os.environ[METRICS_FOLDER_VARIABLE])))
    return registry
