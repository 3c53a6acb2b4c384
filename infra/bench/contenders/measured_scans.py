"""The API with pages of ``patterns`` from another store, for the benchmark."""

from collections.abc import Sequence
from typing import Any, Protocol

from infra.processes.lifeline import stop_with_supervisor
from infra.read_models.row_queries import RedisRowQueries
from infra.redis.connections import AsyncRedisClient
from infra.serving.server import run_server
from infra.settings import Settings
from projections.base import Projection
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import Page, Query, RowQueries
from projections.versions import Build


class ScanStore(Protocol):
    """A store that answers scans."""

    source: str

    async def page(self, query: Query) -> Page[PatternRow]:
        """Return a page of patterns."""
        ...


class MeasuredScans(RedisRowQueries[PatternRow]):
    """Queries of ``patterns``. The store returns the pages. Redis answers all other queries, which are not measured."""

    def __init__(
        self,
        store: ScanStore,
        client: AsyncRedisClient,
        projection: Projection[PatternRow, Any],
        build: Build,
        logs: Sequence[str],
    ) -> None:
        super().__init__(client, projection, build, logs)
        self.source = store.source
        self._store = store

    async def page(self, query: Query) -> Page[PatternRow]:
        """Return a page of patterns from the store."""
        return await self._store.page(query)


def serve_scans(store: ScanStore) -> None:
    """Serve the API with the pages of ``patterns`` from a store."""

    def open_queries(
        client: AsyncRedisClient, projection: Projection[Any, Any], build: Build, logs: Sequence[str]
    ) -> RowQueries[Any]:
        if projection.name == ActivePatterns.name:
            return MeasuredScans(store, client, projection, build, logs)
        return RedisRowQueries(client, projection, build, logs)

    stop_with_supervisor()
    run_server(Settings(), open_queries)
