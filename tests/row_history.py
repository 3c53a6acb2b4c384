"""Helpers for tests of histories: fold a history, query it, empty the archive."""

import asyncio
from collections.abc import Iterable, Sequence

from psycopg.sql import SQL, Identifier

from infra.archive.leases import PostgresLease, acquire_lease
from infra.archive.row_history.projector import HistoryProjector
from infra.archive.row_history.state_rows import copy_states
from infra.archive.row_history.tables import HistoryTables
from infra.archive.row_history.versions import switch_live_version
from infra.postgres.database import Database
from infra.serving.archive import ArchiveGateway, ArchiveServers
from infra.serving.row_history import PostgresHistory
from projections.patterns import ActivePatterns
from projections.queries import AnyProjection, HistoryPage, Query, Timeline
from projections.row_history import ValidityInterval

PATTERNS = HistoryTables(ActivePatterns)
"""The tables of the history of ``patterns``."""

_TABLES = ("events", "logs", "anchors", "segments", "live_versions", "patterns_events", "pattern_history")


def history_lease(
    database: Database, log: str, owner: str = "history", seconds: float = 60, version: int = ActivePatterns.version
) -> PostgresLease:
    """Acquire the lease of the projector that folds the history of ``patterns``."""
    with database.connection() as connection:
        PATTERNS.create(connection)
        PATTERNS.create_indexes(connection)
        lease = acquire_lease(connection, PATTERNS.name, version, log, owner, seconds)
    assert lease is not None
    return lease


def history_projector(database: Database, lease: PostgresLease, batch_size: int = 100) -> HistoryProjector:
    """Return a projector that folds the history of ``patterns``."""
    return HistoryProjector(database, ActivePatterns(), lease, batch_size)


def fold_history(database: Database, log: str, batch_size: int = 100, version: int = ActivePatterns.version) -> int:
    """Fold the patterns of all archived events of a log. Return the number of events."""
    projector = history_projector(database, history_lease(database, log, version=version), batch_size)
    with database.connection() as connection:
        switch_live_version(connection, PATTERNS, version)
    events = 0
    while count := projector.step():
        events += count
    return events


def write_states(
    database: Database, projection: AnyProjection, log: str, states: Iterable[tuple[Timeline, ValidityInterval]]
) -> None:
    """Store states in the history of a read model, and make its version live."""
    tables = HistoryTables(projection)
    with database.connection() as connection:
        tables.create(connection)
        tables.create_indexes(connection)
        switch_live_version(connection, tables, projection.version)
        copy_states(connection, tables, projection.version, log, states)


def query_histories(
    database: Database,
    logs: Sequence[str],
    queries: Sequence[tuple[Query, Timeline]],
    projection: AnyProjection = ActivePatterns,
) -> list[HistoryPage]:
    """Run several queries as of a moment."""
    history = PostgresHistory(ArchiveServers(ArchiveGateway(database)), projection, logs)

    async def run() -> list[HistoryPage]:
        return [await history.page(query, timeline) for query, timeline in queries]

    return asyncio.run(run())


def query_history(
    database: Database,
    logs: Sequence[str],
    query: Query,
    timeline: Timeline = "recorded",
    projection: AnyProjection = ActivePatterns,
) -> HistoryPage:
    """Run one query as of a moment."""
    [page] = query_histories(database, logs, [(query, timeline)], projection)
    return page


def clear_archive(database: Database) -> None:
    """Delete all rows of the archive. On tables with few rows DELETE is many times as fast as TRUNCATE."""
    with database.connection() as connection:
        PATTERNS.create(connection)
        for table in _TABLES:
            connection.execute(SQL("DELETE FROM {}").format(Identifier("tickview", table)))
