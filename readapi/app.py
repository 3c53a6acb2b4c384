"""The Falcon application: its ports, its routes and its middleware."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import falcon
from prometheus_client import CollectorRegistry

from projections.activity import Activity
from projections.backtests import Backtests
from projections.patterns import ActivePatterns
from projections.producers import Producers
from projections.queries import RowQueries
from projections.workspaces import Workspaces
from readapi.access.guard import Guard, access_rules
from readapi.access.immediate_routes import immediate_routes
from readapi.access.origins import CrossOrigin
from readapi.audit.auditing import AuditCheckResource, AuditHeadResource, AuditVerifyResource
from readapi.audit.resources import AuditEventsResource, AuditStreamResource, AuditVerificationResource
from readapi.audit.subjects import AuditListResource, AuditPatternResource
from readapi.backtests.resources import BacktestResource, BacktestsResource
from readapi.catalogue.filters import Catalogue
from readapi.catalogue.symbols import SymbolResource, SymbolsResource
from readapi.catalogue.universes import UniverseResource, UniversesResource
from readapi.compatibility.tickstock.middleware import TickstockMiddleware
from readapi.console.resources import console_routes
from readapi.http.asgi import Lifespan
from readapi.http.mounting import DocumentedApplication
from readapi.http.openapi import DocumentResource, Section
from readapi.http.problems import Application, handle_errors
from readapi.http.read_model import ReadModel
from readapi.http.request_metrics import RequestMetrics
from readapi.operations.dashboard import DashboardResource
from readapi.operations.dead_letters import DeadLetterResource, DeadLetterRetryResource, DeadLettersResource
from readapi.operations.events import EventsResource
from readapi.operations.health import (
    DiscoveryHealthResource,
    HealthResource,
    LiveResource,
    PatternsHealthResource,
    ReadyResource,
)
from readapi.operations.metrics import MetricsResource
from readapi.operations.performance import PerformanceResource
from readapi.operations.projections import (
    ParkedKeyConverter,
    ParkedKeyRetryResource,
    ParkedKeysResource,
    ProjectionsResource,
    ReplayResource,
    ReplayVerificationResource,
    RollbackResource,
    SwitchResource,
)
from readapi.patterns.list_filters import CallerWorkspace
from readapi.patterns.overview import StatisticsResource, SummaryResource
from readapi.patterns.pattern import PatternResource
from readapi.patterns.scan import ScanResource
from readapi.ports.archive import History
from readapi.ports.audit import Auditor
from readapi.ports.commands import Commands
from readapi.ports.errors import UnavailableError
from readapi.ports.operations import Operations
from readapi.push.hub import Hub
from readapi.push.resources import push_routes
from readapi.read_models.as_of import RowHistory
from readapi.read_models.listing import ReadModelsResource
from readapi.read_models.resources import ServedReadModel, read_model_routes
from readapi.users.alerts import AlertResource
from readapi.users.filter_presets import PRESETS
from readapi.users.list_resource import UserLists, collection_resource, item_resource
from readapi.users.watchlists import WATCHLISTS

ReadModels = Mapping[str, ReadModel[RowQueries[Any]]]
"""The live read models by name."""


@dataclass(frozen=True)
class ArchivePorts:
    """The ports to the archive: the histories of read models, the history of all events, and the auditor."""

    histories: Mapping[str, RowHistory]
    """The history of each read model that has one, by the name of the read model."""
    history: History | None
    """The history of all events. None if there is no archive."""
    auditor: Auditor | None
    """Verifies the archive. None if there is no archive."""


@dataclass(frozen=True)
class Ports:
    """The ports that the resources use: read models, archive, commands and operations."""

    read_models: ReadModels
    archive: ArchivePorts
    commands: Commands
    operations: Operations


@dataclass(frozen=True)
class Runtime:
    """The process that runs the application."""

    lifespan: Lifespan
    store_errors: tuple[type[Exception], ...] = ()
    """Base classes of the errors that the store of the read models raises."""
    describe_store_error: Callable[[Exception], UnavailableError | None] = lambda _: None
    """Returns why the store is unavailable (503), or None if an error of these classes is a defect (500)."""
    clock: Callable[[], float] = time.time
    """Returns the time in epoch seconds."""
    compatibility: Literal["tickstock"] | None = None
    """The platform as which the API speaks. None: as TickView."""
    process_registry: CollectorRegistry | None = None
    """Merges the metrics of all processes. None if this is the only process."""
    tracing: Any = None
    """Falcon middleware that traces the requests. None: they are not traced."""


def create_app(ports: Ports, hub: Hub, guard: Guard, runtime: Runtime, host: Application | None = None) -> Application:
    """Create the application, or add all routes to a host application.

    Args:
        ports: The ports that the resources use.
        hub: Live push.
        guard: Authenticates and authorises every request.
        runtime: The process that runs the application.
        host: The application that gets the routes. None for a new application.
    """
    registry = CollectorRegistry()
    request_metrics = RequestMetrics(registry)
    hub.metrics.register(registry)
    openapi = DocumentResource()
    metrics = MetricsResource(
        request_metrics, runtime.process_registry or registry, ports.operations, ports.read_models[ActivePatterns.name]
    )
    service = {
        **_health_routes(ports, request_metrics, runtime.clock),
        "/metrics": metrics,
        "/openapi.json": openapi,
    }
    sections = (
        *_sections(ports, hub, runtime.clock),
        Section("Service", "Health, performance, metrics, and this document.", service),
    )
    routes = {path: resource for section in sections for path, resource in section.routes.items()}
    openapi.describe(sections, guarded=guard.authenticator is not None)
    routes |= console_routes(has_own_root=host is None)
    access_rules(routes)
    app = host or DocumentedApplication(media_type=falcon.MEDIA_JSON)
    if isinstance(app, DocumentedApplication):
        app.openapi = openapi
        # The server ignores messages of WebSocket clients, so that Falcon need not queue them for the responder.
        app.ws_options.max_receive_queue = 0
    app.router_options.converters["parked_key"] = ParkedKeyConverter
    for middleware in filter(None, (runtime.tracing, request_metrics, guard)):
        app.add_middleware(middleware)
    if runtime.compatibility:
        patterns = ports.read_models[ActivePatterns.name]
        app.add_middleware(TickstockMiddleware(routes, patterns, hub.catalogue, ports.operations, runtime.clock))
    if guard.origins and host is None:
        app.add_middleware(CrossOrigin(guard.origins))
    app.add_middleware(runtime.lifespan)
    handle_errors(app, runtime.store_errors, runtime.describe_store_error, is_host=host is not None)
    for path, resource in routes.items():
        app.add_route(path.replace("{key}/retry", "{key:parked_key}"), resource)
    # An immediate answer passes no middleware: neither the platform's parameters nor the spans of requests.
    if isinstance(app, DocumentedApplication) and not (runtime.compatibility or runtime.tracing):
        resources = {path: resource for path, resource in routes.items() if isinstance(resource, ScanResource)}
        app.answer_immediately = immediate_routes(resources, guard, request_metrics)
    return app


def _sections(ports: Ports, hub: Hub, clock: Callable[[], float]) -> Iterator[Section]:
    """Yield the parts of the API, in the order of the API reference."""
    models, catalogue = ports.read_models, hub.catalogue
    workspace = CallerWorkspace(models[Workspaces.name])
    patterns = _pattern_routes(ports, hub, workspace, clock)
    yield Section("Patterns", "The active patterns, now and at a moment of the past.", patterns)
    yield Section("Push", "Live changes of read models as server-sent events.", push_routes(hub, workspace))
    yield Section("Backtests", "Backtest runs with progress and results.", _backtest_routes(ports))
    yield Section("Catalogue", "Symbols, universes, and statistics.", _catalogue_routes(models, catalogue, clock))
    yield Section("Workspaces", "Watchlists, filter presets and alerts of the user.", _user_routes(ports, clock))
    yield Section("Read models", "The rows of every read model, also of plug-ins.", _read_model_routes(ports, clock))
    recording = _recording_routes(ports.commands)
    yield Section("Recording", "Messages of producers, and messages that could not be read.", recording)
    yield Section("Audit", "The history of all events, its verification and its heads.", _audit_routes(ports.archive))
    operations = _projection_routes(ports.operations)
    yield Section("Operations", "Replay, verification and switch of read models, and parked keys.", operations)


def _pattern_routes(
    ports: Ports, hub: Hub, workspace: CallerWorkspace, clock: Callable[[], float]
) -> dict[str, object]:
    patterns, archive = ports.read_models[ActivePatterns.name], ports.archive
    history = archive.histories[ActivePatterns.name]
    return {
        "/api/patterns/scan": ScanResource(patterns, history, hub.catalogue, workspace, clock, hub.shown_values),
        "/api/patterns/stats": StatisticsResource(patterns, hub.catalogue, clock),
        "/api/patterns/summary": SummaryResource(patterns, clock),
        "/api/patterns/health": PatternsHealthResource(patterns, ports.operations, clock),
        "/api/patterns/{pattern_id:path}": PatternResource(patterns, archive.history, clock),
    }


def _backtest_routes(ports: Ports) -> dict[str, object]:
    backtests = ports.read_models[Backtests.name]
    return {
        "/api/backtests": BacktestsResource(backtests),
        "/api/backtests/{job_id}": BacktestResource(backtests, ports.archive.history),
    }


def _audit_routes(archive: ArchivePorts) -> dict[str, object]:
    return {
        "/api/audit/events": AuditEventsResource(archive.history),
        "/api/audit/streams/{stream:path}": AuditStreamResource(archive.history),
        "/api/audit/patterns/{pattern_id:path}": AuditPatternResource(archive.history),
        "/api/audit/lists/{list_id}": AuditListResource(archive.history),
        "/api/audit/verification": AuditVerificationResource(archive.history),
        "/api/audit/verify": AuditVerifyResource(archive.auditor),
        "/api/audit/head": AuditHeadResource(archive.auditor),
        "/api/audit/check": AuditCheckResource(archive.auditor),
    }


def _recording_routes(commands: Commands) -> dict[str, object]:
    return {
        "/api/events": EventsResource(commands.messages),
        "/api/dead-letters": DeadLettersResource(commands.dead_letters),
        "/api/dead-letters/{letter_id}": DeadLetterResource(commands.dead_letters),
        "/api/dead-letters/{letter_id}/retry": DeadLetterRetryResource(commands.dead_letters),
    }


def _projection_routes(operations: Operations) -> dict[str, object]:
    return {
        "/api/projections": ProjectionsResource(operations),
        "/api/projections/{name}/replay": ReplayResource(operations),
        "/api/projections/{name}/verify": ReplayVerificationResource(operations),
        "/api/projections/{name}/switch": SwitchResource(operations),
        "/api/projections/{name}/rollback": RollbackResource(operations),
        "/api/projections/{name}/parked": ParkedKeysResource(operations),
        "/api/projections/{name}/parked/{key}/retry": ParkedKeyRetryResource(operations),
    }


def _catalogue_routes(models: ReadModels, catalogue: Catalogue, clock: Callable[[], float]) -> dict[str, object]:
    return {
        "/api/dashboard/stats": DashboardResource(models[Activity.name], catalogue, clock),
        "/api/symbols": SymbolsResource(catalogue),
        "/api/symbols/{symbol:path}": SymbolResource(catalogue, models[ActivePatterns.name], clock),
        "/api/users/universe": UniversesResource(catalogue.universes),
        "/api/users/universe/{key}": UniverseResource(catalogue.universes),
    }


def _read_model_routes(ports: Ports, clock: Callable[[], float]) -> dict[str, object]:
    histories = ports.archive.histories
    models = [ServedReadModel(model, histories.get(name), clock) for name, model in ports.read_models.items()]
    routes: dict[str, object] = {"/api/read-models": ReadModelsResource(models)}
    for model in models:
        if model.projection.scope is not None:
            routes |= read_model_routes(model)
    return routes


def _user_routes(ports: Ports, clock: Callable[[], float]) -> dict[str, object]:
    commands = ports.commands
    user_lists = UserLists(ports.read_models[Workspaces.name], commands.workspaces, clock)
    return {
        "/api/users/watchlists": collection_resource(WATCHLISTS, user_lists),
        "/api/users/watchlists/{list_id}": item_resource(WATCHLISTS, user_lists),
        "/api/users/filter-presets": collection_resource(PRESETS, user_lists),
        "/api/users/filter-presets/{list_id}": item_resource(PRESETS, user_lists),
        "/api/users/filter-presets/{list_id}/alert": AlertResource(user_lists, commands.webhooks),
    }


def _health_routes(ports: Ports, request_metrics: RequestMetrics, clock: Callable[[], float]) -> dict[str, object]:
    models, operations = ports.read_models, ports.operations
    patterns, producers = models[ActivePatterns.name], models[Producers.name]
    return {
        "/api/health": HealthResource(patterns, operations),
        "/api/health/live": LiveResource(),
        "/api/health/ready": ReadyResource(models.values()),
        "/api/pattern-discovery/health": DiscoveryHealthResource(patterns, producers, operations, clock),
        "/api/pattern-discovery/performance": PerformanceResource(request_metrics),
    }
