"""Queries on the indexes in Redis. Each query takes two round trips, regardless of its filters.

The first pipeline reads the total and the first rows of every segment (``query.lua``). The second pipeline reads the
documents of the page. ``docs/queries.md`` describes the cost.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeVar

from redis.asyncio import Redis

from infra.read_models.keys import SegmentKeys
from infra.redis.functions import Argument, command, with_functions_async
from projections.base import Projection
from projections.ports import Segment
from projections.queries import MAX_OFFSET, Cursor, Page, ResultRow, TooDeepError, read_result
from projections.versions import Build

Row = TypeVar("Row")

MAX_ATTEMPTS = 3
"""Highest number of attempts of a query whose rows are removed between the two round trips. After the last attempt the
page has only the rows that exist."""

ANY_SCORE = (float("-inf"), float("inf"))
"""The bounds of a range that contains every score."""


class Range(NamedTuple):
    """The rows of an index, or of one group of an index, whose scores lie between two bounds, both included."""

    name: str
    """Name of the index."""
    group: str
    """Group of the index; empty if the index has no groups."""
    lowest: float
    highest: float


class Clause(NamedTuple):
    """The rows of several ranges. No two ranges have a row in common."""

    ranges: Sequence[Range]
    sorted: bool
    """Whether the scores are the query's sort values."""


@dataclass(frozen=True)
class IndexQuery:
    """A query for the rows that match all clauses, ordered by (sort value, id). It has at least one clause."""

    clauses: Sequence[Clause]
    sort_by: str | None
    """Index whose scores are the sort values; None to sort by symbol, with which the ids begin."""
    descending: bool
    limit: int
    offset: int = 0
    after: Cursor | None = None
    now: float | None = None
    """Current time in epoch seconds. Rows whose score in the index ``expiry`` is not after this time do not match."""
    symbols: Mapping[str, Sequence[str]] | None = None
    """Log -> symbols of the rows to select from the log's segment; None to select the rows of all symbols."""


class _RowLocation(NamedTuple):
    """The place of a row in the order of a query, and the log whose segment has the row."""

    sort_value: float | str
    key: str
    log: str


class IndexedRows(Generic[Row]):
    """The rows of one build of a read model.

    Args:
        client: An asynchronous client of the server that has the read model.
        projection: The projection of the read model.
        build: The build.
        logs: The logs whose segments have the rows.
    """

    def __init__(self, client: Redis, projection: Projection[Row, Any], build: Build, logs: Sequence[str]) -> None:
        self._client = client
        self._row = projection.row
        self.keys = {log: SegmentKeys(Segment(projection.name, build, log)) for log in logs}

    async def get(self, log: str, key: str) -> ResultRow[Row] | None:
        """Return one row, None if it does not exist."""
        rows = await self.get_many(log, [key])
        return rows[0] if rows else None

    async def get_many(self, log: str, keys: Collection[str]) -> list[ResultRow[Row]]:
        """Return the rows that exist, in the order of ``keys``."""
        return await self._fetch([_RowLocation(0.0, key, log) for key in keys])

    async def page(self, query: IndexQuery) -> Page[Row]:
        """Return one page of a query.

        Raises:
            TooDeepError: The offset is higher than ``MAX_OFFSET``, and there are rows at the offset.
        """
        if query.offset > MAX_OFFSET:
            total, _ = await self._find(replace(query, offset=0, limit=0))
            if query.offset < total:
                raise TooDeepError(
                    f"Row {query.offset} of {total} cannot be reached by a page number, which reaches the first "
                    f"{MAX_OFFSET} rows. Use a cursor."
                )
            return Page([], total, None)
        for _ in range(MAX_ATTEMPTS):
            total, locations = await self._find(query)
            page, has_more = locations[: query.limit], len(locations) > query.limit
            rows = await self._fetch(page)
            if len(rows) == len(page):
                break
        return Page(rows, total, Cursor(page[-1].sort_value, page[-1].key) if has_more and page else None)

    async def _find(self, query: IndexQuery) -> tuple[int, list[_RowLocation]]:
        """Find the total, and the locations of the page's rows and of the following row."""
        indexes, leading, trailing = _query_arguments(query)

        async def query_segments() -> list[list[Any]]:
            async with self._client.pipeline(transaction=False) as pipeline:
                for log, names in self.keys.items():
                    keys = [names.index(name, group) for name, group in indexes]
                    arguments = [*leading, *_symbol_arguments(query, log), *trailing]
                    pipeline.execute_command(*command("query", keys, arguments, read_only=True))
                replies: list[list[Any]] = await pipeline.execute()
                return replies

        replies = await with_functions_async(self._client, query_segments)
        locations = [
            _RowLocation(float(value) if query.sort_by else value.decode(), key.decode(), log)
            for log, reply in zip(self.keys, replies, strict=True)
            for key, value in zip(reply[1::2], reply[2::2], strict=True)
        ]
        # The locations of each segment are sorted already. Python's sort merges sorted runs in linear time.
        locations.sort(reverse=query.descending)
        return sum(reply[0] for reply in replies), locations[query.offset : query.offset + query.limit + 1]

    async def _fetch(self, locations: Sequence[_RowLocation]) -> list[ResultRow[Row]]:
        """Read the rows that exist, in the order of the locations."""
        if not locations:
            return []
        by_log: dict[str, list[str]] = {}
        for location in locations:
            by_log.setdefault(location.log, []).append(location.key)
        async with self._client.pipeline(transaction=False) as pipeline:
            for log, keys in by_log.items():
                pipeline.hmget(self.keys[log].rows, keys)
            replies = await pipeline.execute()
        documents = {log: iter(reply) for log, reply in zip(by_log, replies, strict=True)}
        return [
            read_result(self._row, location.log, document)
            for location in locations
            if (document := next(documents[location.log])) is not None
        ]


def _symbol_arguments(query: IndexQuery, log: str) -> list[Argument]:
    """Return the number of the log's symbols, followed by the symbols, as ``query.lua`` expects them."""
    if query.symbols is None:
        return [-1]
    symbols = query.symbols.get(log, ())
    return [len(symbols), *symbols]


def _query_arguments(query: IndexQuery) -> tuple[list[tuple[str, str]], list[Argument], list[Argument]]:
    """Return the indexes as (name, group), and the arguments of ``query.lua`` before and after the symbols."""
    numbers: dict[tuple[str, str], int] = {}

    def number(name: str, group: str = "") -> int:
        return numbers.setdefault((name, group), len(numbers) + 1)

    leading: list[Argument] = [
        number(query.sort_by) if query.sort_by else 0,
        0 if query.now is None else number("expiry"),
        0 if query.now is None else query.now,
        int(query.descending),
        query.offset + query.limit + 1 if query.limit else 0,
        *(query.after or ("", "")),
    ]
    trailing: list[Argument] = []
    for clause in query.clauses:
        trailing += (int(clause.sorted), len(clause.ranges))
        for name, group, lowest, highest in clause.ranges:
            trailing += (number(name, group), lowest, highest)
    return list(numbers), leading, trailing
