"""Queries of all read models except ``patterns``, answered from their rows and indexes in Redis."""

from asyncio import gather
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date

from redis.asyncio import Redis

from domain.streams import backtest_stream, log_of
from infra.read_models.index_queries import ANY_SCORE, Clause, IndexedRows, IndexQuery, Range
from projections.activity import Activity, ActivityRow
from projections.backtests import BacktestRow, Backtests
from projections.producers import ProducerRow, Producers
from projections.queries import BacktestSort, Page, ResultRow
from projections.versions import Build
from projections.workspaces import WorkspaceRow, Workspaces

ACTIVITY_BATCH = 1_000
"""Highest number of activity rows per query of one partition."""

WORKSPACE_BATCH = 20
"""Highest number of workspaces per read. One workspace may have nearly a megabyte."""

EPOCH = date(1970, 1, 1)
"""The day from which the scores of the index ``day`` of ``activity`` count."""


class RedisBacktestQueries:
    """Queries of one build of ``backtests``.

    Args:
        client: An asynchronous client of the server that has the read model.
        build: The build.
        logs: All partitions of the market log.
    """

    def __init__(self, client: Redis, build: Build, logs: Sequence[str]) -> None:
        self._partitions = len(logs)
        self._rows = IndexedRows(client, Backtests(), build, logs)

    async def runs(
        self, statuses: frozenset[str], sort_by: BacktestSort, *, descending: bool, offset: int, limit: int
    ) -> Page[BacktestRow]:
        """Return a page of the runs with one of the statuses, ordered by (sort value, job id).

        Args:
            statuses: The statuses. An empty set selects all runs.
            sort_by: The index to sort by.
            descending: Whether the highest value comes first.
            offset: The number of runs to skip.
            limit: The highest number of runs on the page.

        Raises:
            TooDeepError: The offset is higher than ``MAX_OFFSET``.
        """
        if statuses:
            ranges = [Range("status", status, *ANY_SCORE) for status in statuses]
            clause = Clause(ranges, sorted=sort_by == "updated_at")
        else:
            clause = Clause([Range(sort_by, "", *ANY_SCORE)], sorted=True)
        return await self._rows.page(IndexQuery([clause], sort_by, descending, limit, offset))

    async def get(self, job_id: str) -> ResultRow[BacktestRow] | None:
        """Return one run, None if it does not exist."""
        return await self._rows.get(log_of(backtest_stream(job_id), self._partitions), job_id)


class RedisActivityQueries:
    """Queries of one build of ``activity``.

    Args:
        client: An asynchronous client of the server that has the read model.
        build: The build.
        logs: All partitions of the market log.
    """

    def __init__(self, client: Redis, build: Build, logs: Sequence[str]) -> None:
        # Each partition is read by itself: partitions have rows with the same key, which a cursor cannot distinguish.
        self._partitions = [IndexedRows(client, Activity(), build, [log]) for log in logs]

    async def since(self, day: str) -> Sequence[ActivityRow]:
        """Return the rows of a day and of all later days, summed over the partitions, ordered by key.

        Args:
            day: The day in UTC, such as ``2026-11-23``.
        """
        first = float((date.fromisoformat(day) - EPOCH).days)
        sums: dict[tuple[str, str, str], ActivityRow] = {}
        for rows in await gather(*(_rows_since(partition, first) for partition in self._partitions)):
            for row in rows:
                key = (row.day, row.event_type, row.source)
                sums[key] = _sum(sums[key], row) if key in sums else row
        return [sums[key] for key in sorted(sums)]


async def _rows_since(partition: IndexedRows[ActivityRow], first: float) -> list[ActivityRow]:
    clause = Clause([Range("day", "", first, ANY_SCORE[1])], sorted=True)
    query = IndexQuery([clause], "day", descending=False, limit=ACTIVITY_BATCH)
    rows: list[ActivityRow] = []
    while True:
        page = await partition.page(query)
        rows += (result.row for result in page.rows)
        if page.end is None:
            return rows
        query = replace(query, after=page.end)


def _sum(row: ActivityRow, other: ActivityRow) -> ActivityRow:
    return replace(
        row,
        events=row.events + other.events,
        first_at=min(row.first_at, other.first_at),
        latest_at=max(row.latest_at, other.latest_at),
    )


class RedisWorkspaceQueries:
    """Queries of one build of ``workspaces``.

    Args:
        client: An asynchronous client of the server that has the read model.
        build: The build.
        logs: The log of the users.
    """

    def __init__(self, client: Redis, build: Build, logs: Sequence[str]) -> None:
        [self._log] = logs
        self._rows = IndexedRows(client, Workspaces(), build, logs)

    async def get(self, user: str) -> ResultRow[WorkspaceRow] | None:
        """Return the workspace of a user, None if the user has no events."""
        return await self._rows.get(self._log, user)

    async def get_many(self, users: Collection[str]) -> Mapping[str, WorkspaceRow]:
        """Return the workspaces of several users. Users without events are missing."""
        user_ids = list(users)
        workspaces: list[ResultRow[WorkspaceRow]] = []
        for start in range(0, len(user_ids), WORKSPACE_BATCH):
            workspaces += await self._rows.get_many(self._log, user_ids[start : start + WORKSPACE_BATCH])
        return {workspace.row.user: workspace.row for workspace in workspaces}


class RedisProducerQueries:
    """Queries of one build of ``producers``.

    Args:
        client: An asynchronous client of the server that has the read model.
        build: The build.
        logs: All partitions of the market log.
    """

    def __init__(self, client: Redis, build: Build, logs: Sequence[str]) -> None:
        self._rows = IndexedRows(client, Producers(), build, logs)

    async def latest(self, limit: int) -> Sequence[ResultRow[ProducerRow]]:
        """Return the producers with the latest reports, the latest first, at most ``limit``."""
        clause = Clause([Range("reported_at", "", *ANY_SCORE)], sorted=True)
        page = await self._rows.page(IndexQuery([clause], "reported_at", descending=True, limit=limit))
        return page.rows
