"""The middleware of the compatibility with TickStock: it converts requests before, and answers after TickView."""

import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import orjson
from falcon import MEDIA_JSON
from falcon.asgi import Request, Response

from projections.patterns import PatternRow
from projections.queries import RowQueries
from readapi.catalogue.filters import Catalogue
from readapi.compatibility.tickstock import answers
from readapi.compatibility.tickstock.bodies import body_converter
from readapi.compatibility.tickstock.figures import Figures
from readapi.compatibility.tickstock.names import Names, resolve
from readapi.compatibility.tickstock.parameters import forgive, present_parameters, scan_parameters
from readapi.http.identities import identity_of
from readapi.http.operation import Operation, operation_of
from readapi.http.problems import MEDIA_TYPE
from readapi.http.read_model import ReadModel
from readapi.patterns.answer_cache import CachedPatternResource
from readapi.ports.operations import Operations

SCANS = ("/api/patterns/scan", "/api/patterns/stream", "/ws/patterns")
"""Routes with the parameters of the scan."""

FULL: dict[str, str | list[str]] = {"fields": "full"}
"""The pages read the raw values of a pattern, too."""

USER_LISTS = ("/api/users/watchlists", "/api/users/filter-presets")


_DONE = {"POST": "created", "PUT": "changed"}
"""Method -> effect of the request on a list, in one word."""


class TickstockMiddleware:
    """Falcon middleware.

    Args:
        routes: The resources of TickView by path.
        patterns: The read model of the active patterns.
        catalogue: The catalogue.
        operations: The status of the servers.
        clock: Returns the time in epoch seconds.
    """

    def __init__(
        self,
        routes: Mapping[str, object],
        patterns: ReadModel[RowQueries[PatternRow]],
        catalogue: Catalogue,
        operations: Operations,
        clock: Callable[[], float],
    ) -> None:
        cached = [resource for resource in routes.values() if isinstance(resource, CachedPatternResource)]
        self._figures = Figures(patterns, operations, cached, clock)
        self._patterns = patterns
        self._names = Names(catalogue)
        self._clock = clock

    async def process_resource(self, req: Request, _resp: Response, resource: object, params: dict[str, Any]) -> None:
        """Convert the parameters and the body of a request."""
        method = "get" if req.method == "HEAD" else req.method.lower()
        declared = operation_of(resource, method)
        if declared is None:
            return
        await self._convert_parameters(req, declared)
        if req.uri_template == "/api/users/universe/{key}":
            params["key"] = self._names.universe(params["key"])
        if declared.body is not None and (req.uri_template or "").startswith(USER_LISTS):
            req.context.convert_body = body_converter(declared.body)

    async def process_resource_ws(self, req: Request, _ws: object, resource: object, _params: Any) -> None:
        """Convert the parameters of a WebSocket."""
        if declared := operation_of(resource, "websocket"):
            await self._convert_parameters(req, declared)

    async def _convert_parameters(self, req: Request, declared: Operation) -> None:
        parameters = present_parameters(req.params)
        if req.uri_template in SCANS:
            queries = self._patterns.live.queries
            parameters = await resolve(scan_parameters(parameters), self._names, queries, self._clock())
            parameters = FULL | parameters
        own = cast("dict[str, Any]", req.params)
        req.context.asked = dict(own)
        own.clear()
        own.update(forgive(declared.query, parameters))

    async def process_response(self, req: Request, resp: Response, resource: object, _succeeded: bool) -> None:
        """Convert a JSON answer."""
        seconds = time.perf_counter() - getattr(req.context, "started", time.perf_counter())
        if operation_of(resource, "get" if req.method == "HEAD" else req.method.lower()):
            self._figures.note_request(seconds)
        if not resp.data or resp.status_code == 304:
            return
        if resp.content_type == MEDIA_TYPE:
            resp.data = orjson.dumps(answers.problem(orjson.loads(resp.data), req.path))
            return
        convert = self._converters.get(req.uri_template or "")
        if convert is not None and (resp.content_type or "").startswith(MEDIA_JSON):
            document = orjson.loads(resp.data)
            resp.data = orjson.dumps(await convert(self, req, document, round(seconds * 1_000, 3)))

    async def _scan(self, _req: Request, document: Any, _milliseconds: float) -> Any:
        self._figures.note_source(document["performance"]["source"])
        return answers.scan(document)

    async def _stats(self, _req: Request, document: Any, _milliseconds: float) -> Any:
        self._figures.note_source(document["performance"]["source"])
        cache = self._figures.cache(await self._figures.of_patterns())
        return document | {"stats": cache, "status": "stale" if document["stale"] else "healthy"}

    async def _summary(self, _req: Request, document: Any, _milliseconds: float) -> Any:
        self._figures.note_source(document["performance"]["source"])
        patterns = await self._figures.of_patterns()
        return answers.summary(document, patterns, self._figures.cache(patterns))

    async def _patterns_health(self, _req: Request, document: Any, milliseconds: float) -> Any:
        cache = self._figures.cache(await self._figures.of_patterns())
        return answers.patterns_health(document, cache, milliseconds)

    async def _symbols(self, req: Request, document: Any, milliseconds: float) -> Any:
        return answers.symbols(document, req.context.asked | {"limit": req.params.get("limit", 1_000)}, milliseconds)

    async def _symbol(self, _req: Request, document: Any, _milliseconds: float) -> Any:
        return answers.symbol(document)

    async def _universes(self, _req: Request, document: Any, _milliseconds: float) -> Any:
        return answers.universes(document)

    async def _universe(self, _req: Request, document: Any, _milliseconds: float) -> Any:
        return answers.universe(document)

    async def _user_lists(self, req: Request, document: Any, _milliseconds: float) -> Any:
        return answers.user_lists(document, identity_of(req).subject, _DONE.get(req.method))

    async def _dashboard(self, _req: Request, document: Any, _milliseconds: float) -> Any:
        servers = await self._figures.servers()
        database = servers.get("postgres")
        status = "not configured" if database is None else "connected" if database.up else "disconnected"
        return answers.dashboard(document, status)

    async def _discovery_health(self, _req: Request, document: Any, _milliseconds: float) -> Any:
        await self._figures.servers()
        return answers.discovery_health(document, self._figures.performance())

    async def _discovery_performance(self, _req: Request, document: Any, _milliseconds: float) -> Any:
        await self._figures.servers()
        cache = self._figures.cache(await self._figures.of_patterns())
        return document | {"performance": self._figures.performance() | {"pattern_cache_stats": cache}}

    _converters: Mapping[str, Callable[..., Any]] = {
        "/api/patterns/scan": _scan,
        "/api/patterns/stats": _stats,
        "/api/patterns/summary": _summary,
        "/api/patterns/health": _patterns_health,
        "/api/symbols": _symbols,
        "/api/symbols/{symbol:path}": _symbol,
        "/api/users/universe": _universes,
        "/api/users/universe/{key}": _universe,
        "/api/users/watchlists": _user_lists,
        "/api/users/watchlists/{list_id}": _user_lists,
        "/api/users/filter-presets": _user_lists,
        "/api/users/filter-presets/{list_id}": _user_lists,
        "/api/dashboard/stats": _dashboard,
        "/api/pattern-discovery/health": _discovery_health,
        "/api/pattern-discovery/performance": _discovery_performance,
    }
    """Route -> the method that converts its answer."""
