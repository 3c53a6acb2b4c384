"""Helpers for tests of ``pattern_history``: run its projector, scan it, empty the archive."""

import asyncio
from collections.abc import Sequence

from psycopg.sql import SQL, Identifier

from infra.archive.leases import PostgresLease, acquire_lease
from infra.archive.pattern_history.projector import PatternHistoryProjector
from infra.archive.pattern_history.versions import switch_live_version
from infra.postgres.database import Database
from infra.serving.archive import ArchiveGateway
from infra.serving.pattern_history import PostgresPatternHistory
from projections.pattern_history import NAME, Timeline
from projections.patterns import ActivePatterns
from projections.queries import HistoryPage, PatternQuery

_TABLES = ("events", "logs", "anchors", "segments", "live_versions", "pattern_events", "pattern_history")


def history_lease(
    database: Database, log: str, owner: str = "history", seconds: float = 60, version: int = ActivePatterns.version
) -> PostgresLease:
    """Acquire the lease of the history projector of a log."""
    with database.connection() as connection:
        lease = acquire_lease(connection, NAME, version, log, owner, seconds)
    assert lease is not None
    return lease


def fold_history(database: Database, log: str, batch_size: int = 100, version: int = ActivePatterns.version) -> int:
    """Fold all archived events of a log. Return their number."""
    projector = PatternHistoryProjector(database, history_lease(database, log, version=version), batch_size)
    with database.connection() as connection:
        switch_live_version(connection, version)
    events = 0
    while count := projector.step():
        events += count
    return events


def scan_histories(
    database: Database, logs: Sequence[str], queries: Sequence[tuple[PatternQuery, Timeline]]
) -> list[HistoryPage]:
    """Run several scans of the past."""
    history = PostgresPatternHistory(ArchiveGateway(database), logs)

    async def run() -> list[HistoryPage]:
        return [await history.scan(query, timeline) for query, timeline in queries]

    return asyncio.run(run())


def scan_history(
    database: Database, logs: Sequence[str], query: PatternQuery, timeline: Timeline = "recorded"
) -> HistoryPage:
    """Run one scan of the past."""
    [page] = scan_histories(database, logs, [(query, timeline)])
    return page


def clear_archive(database: Database) -> None:
    """Delete all rows of the archive. On tables with few rows DELETE is many times as fast as TRUNCATE."""
    with database.connection() as connection:
        for table in _TABLES:
            connection.execute(SQL("DELETE FROM {}").format(Identifier("tickview", table)))
