"""Queries of any read model, answered from its rows, indexes and counts in Redis.

A page takes two round trips, regardless of its filters. The first pipeline reads the total and the first rows of every
segment (``query.lua``). The second pipeline reads the documents of the page. ``docs/queries.md`` describes the cost.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar

from infra.read_models.keys import SegmentKeys
from infra.read_models.query_plan import column_without_index, plan_query, query_arguments
from infra.read_models.row_counts import read_counts
from infra.redis.connections import AsyncRedisClient
from infra.redis.functions import command, with_functions_async
from projections.base import Projection
from projections.ports import Segment
from projections.queries import (
    MAX_OFFSET,
    Counts,
    Cursor,
    Equality,
    Page,
    Query,
    ResultRow,
    TooDeepError,
    matcher,
    read_result,
)
from projections.registry import FORMER, projection_of
from projections.versions import Build
from readapi.ports.errors import UnavailableError

Row = TypeVar("Row")

MAX_ATTEMPTS = 3
"""Highest number of attempts of a query whose rows are removed between the two round trips. After the last attempt the
page has only the rows that exist."""

LOSS_SECONDS = 10.0
"""Seconds for which rows are not answered while workers fold lost changes again."""

KEYS_PER_READ = 100
"""Highest number of keys per read of rows by key. A row may have nearly a megabyte."""


class _Location(NamedTuple):
    """The place of a row in the order of a query, and the log whose segment has the row."""

    value: float | str | None
    key: str
    log: str


class RedisRowQueries(Generic[Row]):
    """Queries of one build of a read model.

    The rows of a read model that merges rows of several logs cannot be ordered without merging them. Its queries raise
    ``UnavailableError``, because only replicas answer them.

    A build of a former version, live before a switch or after a rollback, has the indexes of the former projection.

    Args:
        client: An asynchronous client of the server that has the read model.
        projection: The projection of the read model.
        build: The build.
        logs: The logs that the projection folds.
    """

    source = "redis"

    def __init__(
        self, client: AsyncRedisClient, projection: Projection[Row, Any], build: Build, logs: Sequence[str]
    ) -> None:
        self._client = client
        self._projection = projection
        self._build = build
        self._indexed = projection_of(FORMER, projection.name, build.version) or projection
        self._keys = {log: SegmentKeys(Segment(projection.name, build, log)) for log in logs}
        self._checkpoints: dict[str, int] = {}
        """Log -> highest checkpoint that was read with rows."""
        self._lost_at: dict[str, float] = {}
        """Log -> moment at which a lower checkpoint was read first, on the monotonic clock."""

    @property
    def _segments(self) -> Mapping[str, SegmentKeys]:
        if self._projection.merges():
            raise UnavailableError(f"the read model {self._projection.name} is being loaded; try again")
        return self._keys

    def state(self, now: float) -> None:
        """Return None: the state of a read model in Redis is not known without a query."""

    async def page(self, query: Query) -> Page[Row]:
        """Return a page of the rows that match a query.

        Raises:
            TooDeepError: The page begins after ``MAX_OFFSET``, and there are matching rows.
            UnavailableError: Only replicas answer queries of this read model, or the build has no index of a column.
        """
        values = {each.column: each.values for each in query.filters if isinstance(each, Equality)}
        if not all(values.values()):
            return Page([], 0, None)
        if self._projection.key in values:
            return await self._page_of_keys(query, values[self._projection.key])
        if self._indexed is not self._projection:
            self._check_indexes(query)
        if query.offset > MAX_OFFSET:
            total, _ = await self._find(query._replace(offset=0, limit=0))
            return _page_behind_the_end(query, total)
        for _ in range(MAX_ATTEMPTS):
            total, locations = await self._find(query)
            page, has_more = locations[: query.limit], len(locations) > query.limit
            rows = await self._fetch(page)
            if len(rows) == len(page):
                break
        return Page(rows, total, Cursor(page[-1].value, page[-1].key) if has_more and page else None)

    def _check_indexes(self, query: Query) -> None:
        """Raise ``UnavailableError`` if the former version, which built the rows, has no index for the query."""
        if column := column_without_index(self._indexed, query):
            name = self._projection.name
            raise UnavailableError(f"the live build {self._build} of {name} has no index of the column {column}")

    async def get(self, key: str, now: float) -> ResultRow[Row] | None:
        """Return the row with a key, or None if there is no such row, or if it has ended at ``now``."""
        rows = await self.get_many([key], now)
        return rows[0] if rows else None

    async def get_many(self, keys: Collection[str], now: float) -> list[ResultRow[Row]]:
        """Return the rows with the keys, in the order of ``keys``, without rows that do not exist or have ended."""
        is_present = matcher(self._projection, (), now)
        wanted, rows = list(keys), list[ResultRow[Row]]()
        for start in range(0, len(wanted), KEYS_PER_READ):
            rows += await self._read(wanted[start : start + KEYS_PER_READ])
        return [result for result in rows if is_present(result.key, result.row)]

    async def counts(self, names: Sequence[str], now: float) -> Mapping[str, Counts]:
        """Return counts by name, of the rows that have not ended at ``now``, in seconds since the epoch."""
        return await read_counts(self._client, self._projection, list(self._segments.values()), names, now)

    async def _find(self, query: Query) -> tuple[int, list[_Location]]:
        """Find the total, and the locations of the page's rows and of the following row."""
        plan = plan_query(self._indexed, query)
        has_ends = self._indexed.ends is not None

        async def query_segments() -> list[list[Any]]:
            async with self._client.pipeline(transaction=False) as pipeline:
                for names in self._segments.values():
                    keys, arguments = query_arguments(plan, query, has_ends, names)
                    pipeline.execute_command(*command("query", keys, arguments, read_only=True))
                replies: list[list[Any]] = await pipeline.execute()
                return replies

        replies = await with_functions_async(self._client, query_segments)
        value_of = _VALUES["id" if query.sort_by is None else plan.order.by]
        locations = [
            _Location(value_of(value), key.decode(), log)
            for log, reply in zip(self._segments, replies, strict=True)
            for key, value in zip(reply[1::2], reply[2::2], strict=True)
        ]
        # The locations of each segment are sorted already. Python's sort merges sorted runs in linear time.
        locations.sort(key=_place if plan.order.by == "text" else None, reverse=query.descending)
        return sum(reply[0] for reply in replies), locations[query.offset : query.page_end]

    async def _fetch(self, locations: Sequence[_Location]) -> list[ResultRow[Row]]:
        """Read the rows that exist, in the order of the locations."""
        if not locations:
            return []
        by_log: dict[str, list[str]] = {}
        for location in locations:
            by_log.setdefault(location.log, []).append(location.key)
        async with self._client.pipeline(transaction=False) as pipeline:
            for log, keys in by_log.items():
                pipeline.hmget(self._segments[log].rows, keys)
            replies = await pipeline.execute()
        documents = {log: iter(reply) for log, reply in zip(by_log, replies, strict=True)}
        return [
            read_result(self._projection.row, location.log, location.key, document)
            for location in locations
            if (document := next(documents[location.log])) is not None
        ]

    async def _read(self, keys: Sequence[str]) -> list[ResultRow[Row]]:
        """Read the rows that exist, in the order of the keys. The log of a key is not known: all segments are asked."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for names in self._segments.values():
                pipeline.hmget(names.rows, keys)
                pipeline.hget(names.state, "checkpoint")
            replies = await pipeline.execute()
        self._check_checkpoints(replies[1::2])
        return [
            read_result(self._projection.row, log, key, document)
            for key, *documents in zip(keys, *replies[::2], strict=True)
            for log, document in zip(self._segments, documents, strict=True)
            if document is not None
        ]

    def _check_checkpoints(self, checkpoints: Sequence[bytes | None]) -> None:
        """Raise ``UnavailableError`` if a segment is behind a checkpoint that was read before.

        A server that has lost its end would otherwise answer that there is no row which a client has seen. Changes
        that are not folded again within ``LOSS_SECONDS`` count as lost for ever.
        """
        now = time.monotonic()
        for log, value in zip(self._segments, checkpoints, strict=True):
            checkpoint = int(value or 0)
            is_behind = checkpoint < self._checkpoints.get(log, 0)
            if is_behind and now - self._lost_at.setdefault(log, now) <= LOSS_SECONDS:
                name = self._projection.name
                raise UnavailableError(f"Redis has lost the latest changes of {name}, and workers fold them again")
            self._checkpoints[log] = checkpoint
            self._lost_at.pop(log, None)

    async def _page_of_keys(self, query: Query, keys: Collection[str]) -> Page[Row]:
        """Read the rows with the keys, and match, sort and cut them here."""
        is_match = matcher(self._projection, query.filters, query.now)
        results = [result for result in await self.get_many(keys, query.now) if is_match(result.key, result.row)]
        if query.offset > MAX_OFFSET:
            return _page_behind_the_end(query, len(results))
        value_of = _values_of_rows(self._projection, query.sort_by)
        rows = {_Location(value_of(result.row), result.key, result.log): result for result in results}
        locations = sorted(rows, key=_place, reverse=query.descending)
        if query.after is not None:
            edge, descending = _place(query.after), query.descending
            locations = [each for each in locations if (_place(each) < edge if descending else _place(each) > edge)]
        page, has_more = locations[query.offset :][: query.limit], len(locations) >= query.page_end
        end = Cursor(page[-1].value, page[-1].key) if has_more and page else None
        return Page([rows[location] for location in page], len(rows), end)


_VALUES: Mapping[str, Callable[[Any], float | str | None]] = {
    "number": float,
    "text": lambda reply: None if reply is None else reply.decode(),
    "id": lambda _reply: None,
}
"""For each order the function that returns the sort value from a reply of ``query.lua``."""


def _values_of_rows(projection: Projection[Any, Any], sort_by: str | None) -> Callable[[Any], float | str | None]:
    if sort_by is None:
        return lambda _row: None
    column = projection.columns[sort_by]
    return column.score_of() if column.has_scores else attrgetter(sort_by)


def _place(location: _Location | Cursor) -> tuple[bool, Any, str]:
    """Return the place of a row in ascending order. A missing text is the lowest."""
    value = location.value
    return value is not None, "" if value is None else value, location.key


def _page_behind_the_end(query: Query, total: int) -> Page[Any]:
    """Return the empty page at an offset above ``MAX_OFFSET``. Raise ``TooDeepError`` if the page would have rows."""
    if query.offset < total:
        raise TooDeepError(query, total)
    return Page([], total, None)
