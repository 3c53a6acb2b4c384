"""The Falcon application: every route, and what each resource needs."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import falcon
from falcon.asgi import App
from prometheus_client import CollectorRegistry

from projections.queries import ActivityQueries, BacktestQueries, PatternQueries, ProducerQueries, WorkspaceQueries
from readapi.access.guard import Guard, rules_of
from readapi.access.origins import CrossOrigin
from readapi.archive_ports import History
from readapi.as_of import PatternHistory
from readapi.audit import AuditEventsResource, AuditStreamResource, AuditVerificationResource
from readapi.backtests import BacktestResource, BacktestsResource
from readapi.catalogue.meaning import Catalogue
from readapi.catalogue.symbols import SymbolResource, SymbolsResource
from readapi.catalogue.universes import UniverseResource, UniversesResource
from readapi.dashboard import DashboardResource
from readapi.dead_letters import DeadLetterResource, DeadLetterRetryResource, DeadLettersResource
from readapi.events import EventsResource
from readapi.filter_presets import PresetResource, PresetsResource
from readapi.health import DiscoveryHealthResource, HealthResource, PatternsHealthResource
from readapi.measuring import Measuring, MetricsResource, PerformanceResource
from readapi.one_pattern import PatternResource
from readapi.openapi import DocumentResource, document
from readapi.own_lists import OwnLists
from readapi.pattern_overview import StatisticsResource, SummaryResource
from readapi.patterns import ScanResource
from readapi.ports import Announcements, DeadLetterDesk, Operations, WorkspaceDesk
from readapi.problems import Application, handle_errors
from readapi.projections import (
    ParkedKeyConverter,
    ParkedKeyRetryResource,
    ParkedKeysResource,
    ProjectionsResource,
    ReplayResource,
    RollbackResource,
)
from readapi.push.hub import Hub
from readapi.push.resources import LiveResource, PatternEventsResource, PatternsLiveResource
from readapi.read_model import ReadModel
from readapi.watchlists import WatchlistResource, WatchlistsResource


class Lifespan(Protocol):
    """Falcon middleware that starts and stops what the process needs."""

    async def process_startup(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """Before the first request."""
        ...

    async def process_shutdown(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """After the last."""
        ...


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
    announcements: Announcements,
    dead_letters: DeadLetterDesk,
    desk: WorkspaceDesk,
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
    measuring = Measuring(requests)
    push.metrics.register(requests)
    lists = OwnLists(workspaces)
    routes: dict[str, object] = {
        "/api/patterns/scan": ScanResource(patterns, pattern_history, catalogue, lists, clock),
        "/api/patterns/stats": StatisticsResource(patterns, clock),
        "/api/patterns/summary": SummaryResource(patterns, clock),
        "/api/patterns/health": PatternsHealthResource(patterns, operations, clock),
        "/api/patterns/stream": PatternEventsResource(push, lists),
        "/ws/patterns": PatternsLiveResource(push, lists),
        "/ws": LiveResource(push, lists),
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
        "/api/users/watchlists": WatchlistsResource(workspaces, desk, clock),
        "/api/users/watchlists/{list_id}": WatchlistResource(workspaces, desk, clock),
        "/api/users/filter-presets": PresetsResource(workspaces, desk, clock),
        "/api/users/filter-presets/{list_id}": PresetResource(workspaces, desk, clock),
        "/api/health": HealthResource(patterns, operations),
        "/api/pattern-discovery/health": DiscoveryHealthResource(patterns, producers, operations, clock),
        "/api/pattern-discovery/performance": PerformanceResource(measuring),
        "/metrics": MetricsResource(measuring, gathered or requests, operations),
    }
    routes["/openapi.json"] = DocumentResource(document(routes, guarded=guard.authenticator is not None))
    rules_of(routes)
    app = host or App(media_type=falcon.MEDIA_JSON)
    if host is None:
        # Nothing is expected of clients, so that nothing need be gathered for the responder.
        app.ws_options.max_receive_queue = 0
    app.router_options.converters["parked_key"] = ParkedKeyConverter
    app.add_middleware(measuring)
    app.add_middleware(guard)
    if guard.origins and host is None:
        app.add_middleware(CrossOrigin(guard.origins))
    app.add_middleware(lifespan)
    handle_errors(app, away, own=host is None)
    for path, resource in routes.items():
        app.add_route(path.replace("{key}/retry", "{key:parked_key}"), resource)
    return app
