"""The Falcon application: every route, and what each resource needs."""

from collections.abc import Callable

import falcon
from falcon.asgi import App
from prometheus_client import CollectorRegistry

from projections.queries import ActivityQueries, BacktestQueries, PatternQueries, ProducerQueries, WorkspaceQueries
from readapi.access.guard import Guard, access_rules
from readapi.access.origins import CrossOrigin
from readapi.audit.resources import AuditEventsResource, AuditStreamResource, AuditVerificationResource
from readapi.backtests.resources import BacktestResource, BacktestsResource
from readapi.catalogue.filters import Catalogue
from readapi.catalogue.symbols import SymbolResource, SymbolsResource
from readapi.catalogue.universes import UniverseResource, UniversesResource
from readapi.http.asgi import Lifespan
from readapi.http.openapi import DocumentResource, document
from readapi.http.problems import Application, handle_errors
from readapi.http.read_model import ReadModel
from readapi.http.request_metrics import RequestMetrics
from readapi.operations.dashboard import DashboardResource
from readapi.operations.dead_letters import DeadLetterResource, DeadLetterRetryResource, DeadLettersResource
from readapi.operations.events import EventsResource
from readapi.operations.health import DiscoveryHealthResource, HealthResource, PatternsHealthResource
from readapi.operations.metrics import MetricsResource
from readapi.operations.performance import PerformanceResource
from readapi.operations.projections import (
    ParkedKeyConverter,
    ParkedKeyRetryResource,
    ParkedKeysResource,
    ProjectionsResource,
    ReplayResource,
    RollbackResource,
)
from readapi.patterns.as_of import PatternHistory
from readapi.patterns.list_filters import CallerWorkspace
from readapi.patterns.overview import StatisticsResource, SummaryResource
from readapi.patterns.pattern import PatternResource
from readapi.patterns.scan import ScanResource
from readapi.ports.archive import History
from readapi.ports.commands import DeadLetterCommands, MessageRecorder, WorkspaceCommands
from readapi.ports.operations import Operations
from readapi.push.hub import Hub
from readapi.push.resources import PatternSocketResource, PatternStreamResource, SocketResource
from readapi.users.filter_presets import PRESETS
from readapi.users.list_resource import UserLists, collection_resource, item_resource
from readapi.users.watchlists import WATCHLISTS


def create_app(
    *,
    patterns: ReadModel[PatternQueries],
    backtests: ReadModel[BacktestQueries],
    activity: ReadModel[ActivityQueries],
    producers: ReadModel[ProducerQueries],
    catalogue: Catalogue,
    workspaces: ReadModel[WorkspaceQueries],
    pattern_history: PatternHistory,
    history: History | None,
    announcements: MessageRecorder,
    dead_letters: DeadLetterCommands,
    desk: WorkspaceCommands,
    operations: Operations,
    push: Hub,
    clock: Callable[[], float],
    guard: Guard,
    lifespan: Lifespan,
    away: tuple[type[Exception], ...] = (),
    gathered: CollectorRegistry | None = None,
    host: Application | None = None,
) -> Application:
    """The application: a new one, or ``host`` with all routes added.

    ``history`` is None where there is no archive. ``clock`` gives epoch seconds. ``guard`` says who may ask. ``away``
    are the errors that the queries raise while their store cannot be reached. ``gathered`` is where the metrics of all
    processes come together, None where there is one process.
    """
    requests = CollectorRegistry()
    request_metrics = RequestMetrics(requests)
    push.metrics.register(requests)
    lists = CallerWorkspace(workspaces)
    user_lists = UserLists(workspaces, desk, clock)
    routes: dict[str, object] = {
        "/api/patterns/scan": ScanResource(patterns, pattern_history, catalogue, lists, clock),
        "/api/patterns/stats": StatisticsResource(patterns, clock),
        "/api/patterns/summary": SummaryResource(patterns, clock),
        "/api/patterns/health": PatternsHealthResource(patterns, operations, clock),
        "/api/patterns/stream": PatternStreamResource(push, lists),
        "/ws/patterns": PatternSocketResource(push, lists),
        "/ws": SocketResource(push, lists),
        "/api/patterns/{pattern_id:path}": PatternResource(patterns, history, clock),
        "/api/backtests": BacktestsResource(backtests),
        "/api/backtests/{job_id}": BacktestResource(backtests, history),
        "/api/audit/events": AuditEventsResource(history),
        "/api/audit/streams/{stream:path}": AuditStreamResource(history),
        "/api/audit/verification": AuditVerificationResource(history),
        "/api/events": EventsResource(announcements),
        "/api/dead-letters": DeadLettersResource(dead_letters),
        "/api/dead-letters/{letter_id}": DeadLetterResource(dead_letters),
        "/api/dead-letters/{letter_id}/retry": DeadLetterRetryResource(dead_letters),
        "/api/projections": ProjectionsResource(operations),
        "/api/projections/{name}/replay": ReplayResource(operations),
        "/api/projections/{name}/rollback": RollbackResource(operations),
        "/api/projections/{name}/parked": ParkedKeysResource(operations),
        "/api/projections/{name}/parked/{key}/retry": ParkedKeyRetryResource(operations),
        "/api/dashboard/stats": DashboardResource(activity, catalogue.symbols, clock),
        "/api/symbols": SymbolsResource(catalogue.symbols),
        "/api/symbols/{symbol:path}": SymbolResource(catalogue.symbols, patterns, clock),
        "/api/users/universe": UniversesResource(catalogue.universes),
        "/api/users/universe/{key}": UniverseResource(catalogue.universes),
        "/api/users/watchlists": collection_resource(WATCHLISTS, user_lists),
        "/api/users/watchlists/{list_id}": item_resource(WATCHLISTS, user_lists),
        "/api/users/filter-presets": collection_resource(PRESETS, user_lists),
        "/api/users/filter-presets/{list_id}": item_resource(PRESETS, user_lists),
        "/api/health": HealthResource(patterns, operations),
        "/api/pattern-discovery/health": DiscoveryHealthResource(patterns, producers, operations, clock),
        "/api/pattern-discovery/performance": PerformanceResource(request_metrics),
        "/metrics": MetricsResource(request_metrics, gathered or requests, operations),
    }
    routes["/openapi.json"] = DocumentResource(document(routes, guarded=guard.authenticator is not None))
    access_rules(routes)
    app = host or App(media_type=falcon.MEDIA_JSON)
    if host is None:
        # Nothing is expected of clients, so that nothing need be gathered for the responder.
        app.ws_options.max_receive_queue = 0
    app.router_options.converters["parked_key"] = ParkedKeyConverter
    app.add_middleware(request_metrics)
    app.add_middleware(guard)
    if guard.origins and host is None:
        app.add_middleware(CrossOrigin(guard.origins))
    app.add_middleware(lifespan)
    handle_errors(app, away, is_host=host is not None)
    for path, resource in routes.items():
        app.add_route(path.replace("{key}/retry", "{key:parked_key}"), resource)
    return app
