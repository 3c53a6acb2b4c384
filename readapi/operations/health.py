"""The health endpoints: of the service, of its read models, and of one API process for orchestrators."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from falcon.asgi import Request, Response

from projections.patterns import PatternRow
from projections.producers import ProducerRow
from projections.queries import Query, RowQueries
from readapi.http.identities import identity_of
from readapi.http.operation import Resource, operation
from readapi.http.parameters import Parameters
from readapi.http.read_model import ReadModel
from readapi.http.responses import send
from readapi.operations.health_checks import last_known_health, read_model_health
from readapi.operations.health_documents import (
    DiscoveryHealth,
    HealthStatus,
    LiveStatus,
    PatternsHealth,
    ProducerReport,
    ReadyStatus,
    ServiceHealth,
    ServiceStatus,
)
from readapi.operations.service_checks import check_service, has_replica, replica_health
from readapi.ports.errors import UnavailableError
from readapi.ports.operations import Operations
from readapi.ports.read_models import LiveRows

MAX_PRODUCERS = 20
"""Highest number of producers in the health of pattern discovery."""


class HealthResource(Resource):
    """The health of the service."""

    def __init__(self, patterns: ReadModel[RowQueries[PatternRow]], operations: Operations) -> None:
        self._patterns = patterns
        self._operations = operations

    @operation(
        "Show the health of the service.",
        scope=None,
        responses={200: ServiceHealth | ServiceStatus, 503: ServiceHealth | ServiceStatus},
    )
    async def on_get(self, req: Request, resp: Response, _query: Parameters) -> None:
        """Send the status, and to clients with the scope ``read`` the parts. 503 means unhealthy."""
        health = await check_service(self._operations, self._patterns)
        may_read = "read" in identity_of(req).scopes
        content = health if may_read else ServiceStatus(status=health["status"])
        send(resp, content, _http_status(health["status"]))


class LiveResource(Resource):
    """Whether the process runs, for orchestrators."""

    @operation("Show that this API process runs.", scope=None, responses={200: LiveStatus})
    async def on_get(self, _req: Request, resp: Response, _query: Parameters) -> None:
        """Answer without any other part of the service."""
        send(resp, LiveStatus(status="live"))


class ReadyResource(Resource):
    """Whether the process can answer requests, for orchestrators."""

    def __init__(self, read_models: Iterable[ReadModel[RowQueries[Any]]]) -> None:
        self._read_models = list(read_models)

    @operation(
        "Show whether this API process can answer requests.",
        scope=None,
        responses={200: ReadyStatus, 503: ReadyStatus},
    )
    async def on_get(self, _req: Request, resp: Response, _query: Parameters) -> None:
        """Send 200 if the process has loaded all read models, and 503 otherwise. It may answer from memory."""
        reasons = [
            f"no build of the read model {model.name} is loaded"
            for model in self._read_models
            if not model.live.build.number
        ]
        send(resp, ReadyStatus(status="not ready" if reasons else "ready", reasons=reasons), 503 if reasons else 200)


class PatternsHealthResource(Resource):
    """The health of the read model ``patterns``."""

    def __init__(
        self, patterns: ReadModel[RowQueries[PatternRow]], operations: Operations, clock: Callable[[], float]
    ) -> None:
        self.read_model = patterns
        self._operations = operations
        self._clock = clock

    @operation(
        "Show the health of the read model of the patterns.", scope="read", responses={200: PatternsHealth}, reads=True
    )
    async def on_get(self, _req: Request, resp: Response, _query: Parameters, live: LiveRows[PatternRow]) -> None:
        """Send the lag, the parked keys and the size of the read model."""
        health = last_known_health(live)
        if self.read_model.stale_seconds() is None:
            with suppress(UnavailableError):
                models = {model.name: model for model in await self._operations.read_models()}
                health = read_model_health(models[self.read_model.name])
        content = PatternsHealth(
            **health,
            total=await count_rows(live, self._clock()),
            source=live.queries.source,
            replica=replica_health(live.queries),
            **self.read_model.staleness(),
        )
        send(resp, content)


class DiscoveryHealthResource(Resource):
    """The health of the service with figures of pattern discovery."""

    def __init__(
        self,
        patterns: ReadModel[RowQueries[PatternRow]],
        producers: ReadModel[RowQueries[ProducerRow]],
        operations: Operations,
        clock: Callable[[], float],
    ) -> None:
        self._patterns = patterns
        self._producers = producers
        self._operations = operations
        self._clock = clock

    @operation(
        "Show the health of pattern discovery.", scope="read", responses={200: DiscoveryHealth, 503: DiscoveryHealth}
    )
    async def on_get(self, _req: Request, resp: Response, _query: Parameters) -> None:
        """Send the health, the number of active patterns and the last reports. 503 means unhealthy."""
        health = await check_service(self._operations, self._patterns)
        patterns: int | None = None
        producers: list[ProducerReport] | None = None
        is_redis_up = health["intake"] is not None
        if is_redis_up or has_replica(self._patterns):
            patterns = await count_rows(self._patterns.live, self._clock())
        if is_redis_up and has_replica(self._producers):
            latest = Query(self._clock(), sort_by="reported_at", descending=True, limit=MAX_PRODUCERS)
            producers = [
                ProducerReport(source=row.source, status=row.status, reported_at=row.reported_at)
                for row, *_ in (await self._producers.live.queries.page(latest)).rows
                if row.reports
            ]
        content = DiscoveryHealth(**health, patterns=patterns, producers=producers)
        send(resp, content, _http_status(health["status"]))


async def count_rows(live: LiveRows[PatternRow], now: float) -> int:
    """Count the patterns that are active at ``now`` (epoch seconds)."""
    return (await live.queries.counts(["all"], now))["all"].total


def _http_status(status: HealthStatus) -> int:
    return 503 if status == "unhealthy" else 200
