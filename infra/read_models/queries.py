"""The queries to all read models but ``patterns``, answered from their rows and indexes in Redis."""

from asyncio import gather
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date

from redis.asyncio import Redis

from domain.streams import backtest_stream, log_of
from infra.read_models.index_queries import EVERYTHING, Clause, IndexedRows, IndexQuery, Range
from projections.activity import Activity, ActivityRow
from projections.backtests import BacktestRow, Backtests
from projections.producers import ProducerRow, Producers
from projections.queries import BacktestSort, Page, ResultRow
from projections.versions import Build
from projections.workspaces import WorkspaceRow, Workspaces

ROWS_AT_ONCE = 1_000

EPOCH = date(1970, 1, 1)


class RedisBacktestQueries:
    """One build of ``backtests``; ``logs`` are all partitions of the market log."""

    def __init__(self, client: Redis, build: Build, logs: Sequence[str]) -> None:
        self._partitions = len(logs)
        self._rows = IndexedRows(client, Backtests(), build, logs)

    async def runs(
        self, statuses: frozenset[str], sort_by: BacktestSort, *, descending: bool, offset: int, limit: int
    ) -> Page[BacktestRow]:
        """Runs of these states (of all, if none is named), by (sort value, job id). Raises TooDeepError."""
        if statuses:
            ranges = [Range("status", status, *EVERYTHING) for status in statuses]
            clause = Clause(ranges, sorted=sort_by == "updated_at")
        else:
            clause = Clause([Range(sort_by, "", *EVERYTHING)], sorted=True)
        return await self._rows.page(IndexQuery([clause], sort_by, descending, limit, offset))

    async def get(self, job_id: str) -> ResultRow[BacktestRow] | None:
        """One run."""
        return await self._rows.get(log_of(backtest_stream(job_id), self._partitions), job_id)


class RedisActivityQueries:
    """One build of ``activity``; ``logs`` are all partitions of the market log."""

    def __init__(self, client: Redis, build: Build, logs: Sequence[str]) -> None:
        # Each partition by itself: they have rows of the same key, between which no cursor can tell.
        self._partitions = [IndexedRows(client, Activity(), build, [log]) for log in logs]

    async def since(self, day: str) -> Sequence[ActivityRow]:
        """The rows of a day (UTC, ``2026-11-23``) and all later days, added up over the partitions, in order."""
        first = float((date.fromisoformat(day) - EPOCH).days)
        sums: dict[tuple[str, str, str], ActivityRow] = {}
        for rows in await gather(*(_since(partition, first) for partition in self._partitions)):
            for row in rows:
                key = (row.day, row.event_type, row.source)
                sums[key] = _added(sums[key], row) if key in sums else row
        return [sums[key] for key in sorted(sums)]


async def _since(partition: IndexedRows[ActivityRow], first: float) -> list[ActivityRow]:
    clause = Clause([Range("day", "", first, EVERYTHING[1])], sorted=True)
    query = IndexQuery([clause], "day", descending=False, limit=ROWS_AT_ONCE)
    rows: list[ActivityRow] = []
    while True:
        page = await partition.page(query)
        rows += (found.row for found in page.rows)
        if page.end is None:
            return rows
        query = replace(query, after=page.end)


def _added(one: ActivityRow, other: ActivityRow) -> ActivityRow:
    return replace(
        one,
        events=one.events + other.events,
        first_at=min(one.first_at, other.first_at),
        latest_at=max(one.latest_at, other.latest_at),
    )


USERS_AT_ONCE = 20
"""Workspaces that are read together: one may have nearly a megabyte."""


class RedisWorkspaceQueries:
    """One build of ``workspaces``; ``logs`` is the log of the users."""

    def __init__(self, client: Redis, build: Build, logs: Sequence[str]) -> None:
        [self._log] = logs
        self._rows = IndexedRows(client, Workspaces(), build, logs)

    async def get(self, user: str) -> ResultRow[WorkspaceRow] | None:
        """What one user has; None if that user has never done anything."""
        return await self._rows.get(self._log, user)

    async def several(self, users: Collection[str]) -> Mapping[str, WorkspaceRow]:
        """What each of these has; those who have never done anything are missing."""
        asked = list(users)
        found: list[ResultRow[WorkspaceRow]] = []
        for start in range(0, len(asked), USERS_AT_ONCE):
            found += await self._rows.several(self._log, asked[start : start + USERS_AT_ONCE])
        return {one.row.user: one.row for one in found}


class RedisProducerQueries:
    """One build of ``producers``; ``logs`` are all partitions of the market log."""

    def __init__(self, client: Redis, build: Build, logs: Sequence[str]) -> None:
        self._rows = IndexedRows(client, Producers(), build, logs)

    async def latest(self, limit: int) -> Sequence[ResultRow[ProducerRow]]:
        """Those that reported last, the latest first."""
        clause = Clause([Range("reported_at", "", *EVERYTHING)], sorted=True)
        page = await self._rows.page(IndexQuery([clause], "reported_at", descending=True, limit=limit))
        return page.rows
