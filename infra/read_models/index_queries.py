"""How any query is answered from the indexes in Redis: in two round trips, whatever its filters.

One pipeline asks every segment for its total and its first rows (``query.lua``), the second fetches the documents of
the page. ``docs/queries.md`` tells what that costs.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeVar

from redis.asyncio import Redis

from infra.read_models.keys import SegmentKeys
from infra.redis.functions import Argument, command, with_functions_async
from projections.base import Projection, read_row
from projections.ports import Segment
from projections.queries import MAX_OFFSET, Cursor, Page, ResultRow, TooDeepError
from projections.versions import Build

Row = TypeVar("Row")

ATTEMPTS = 3
"""How often a query is asked whose rows vanish before they are fetched; then the page is what is still there."""

EVERYTHING = (float("-inf"), float("inf"))


class Range(NamedTuple):
    """The rows of an index, or of one group of it, whose scores lie between two bounds, both included."""

    name: str
    """Of the index."""
    group: str
    lowest: float
    highest: float


class Clause(NamedTuple):
    """The rows of some ranges, none of which shares a row with another."""

    ranges: Sequence[Range]
    sorted: bool
    """Whether the scores are the query's sort values."""


@dataclass(frozen=True)
class IndexQuery:
    """The rows that all clauses have, of which there is at least one, ordered by (sort value, id)."""

    clauses: Sequence[Clause]
    sort_by: str | None
    """An index; None: by the symbol that the ids begin with."""
    descending: bool
    limit: int
    offset: int = 0
    after: Cursor | None = None
    now: float | None = None
    """Leave out the rows whose score in the index ``expiry`` is not after this moment."""
    symbols: Mapping[str, Sequence[str]] | None = None
    """Log -> only rows whose ids begin with one of these symbols are in its part of the answer."""


class _Place(NamedTuple):
    """Where a row stands in the order, and which log's segment has it."""

    value: float | str
    key: str
    log: str


class IndexedRows(Generic[Row]):
    """The rows of one build of a read model."""

    def __init__(self, client: Redis, projection: Projection[Row, Any], build: Build, logs: Sequence[str]) -> None:
        self._client = client
        self._row = projection.row
        self.keys = {log: SegmentKeys(Segment(projection.name, build, log)) for log in logs}

    async def get(self, log: str, key: str) -> ResultRow[Row] | None:
        """One row."""
        rows = await self.several(log, [key])
        return rows[0] if rows else None

    async def several(self, log: str, keys: Collection[str]) -> list[ResultRow[Row]]:
        """Those of these rows that there are."""
        return await self._fetch([_Place(0.0, key, log) for key in keys])

    async def page(self, query: IndexQuery) -> Page[Row]:
        """The page of the answer. Raises TooDeepError."""
        if query.offset > MAX_OFFSET:
            total, _ = await self._find(replace(query, offset=0, limit=0))
            if query.offset < total:
                raise TooDeepError(
                    f"row {query.offset} of {total}: only the first {MAX_OFFSET} can be paged past by number; "
                    "go on with a cursor"
                )
            return Page([], total, None)
        for _ in range(ATTEMPTS):
            total, places = await self._find(query)
            page, more = places[: query.limit], places[query.limit :]
            rows = await self._fetch(page)
            if len(rows) == len(page):
                break
        return Page(rows, total, Cursor(page[-1].value, page[-1].key) if more and page else None)

    async def _find(self, query: IndexQuery) -> tuple[int, list[_Place]]:
        """The total, and the page with one row more if there is one."""
        indexes, before, after = _words(query)

        async def ask() -> list[list[Any]]:
            async with self._client.pipeline(transaction=False) as pipeline:
                for log, names in self.keys.items():
                    keys = [names.index(name, group) for name, group in indexes]
                    arguments = [*before, *_symbols(query, log), *after]
                    pipeline.execute_command(*command("query", keys, arguments, read_only=True))
                replies: list[list[Any]] = await pipeline.execute()
                return replies

        replies = await with_functions_async(self._client, ask)
        places = [
            _Place(float(value) if query.sort_by else value.decode(), key.decode(), log)
            for log, reply in zip(self.keys, replies, strict=True)
            for key, value in zip(reply[1::2], reply[2::2], strict=True)
        ]
        # Each segment's are in order, and merging runs is what this sort does best.
        places.sort(reverse=query.descending)
        return sum(reply[0] for reply in replies), places[query.offset : query.offset + query.limit + 1]

    async def _fetch(self, places: Sequence[_Place]) -> list[ResultRow[Row]]:
        """The rows that are still there, in the order of the places."""
        if not places:
            return []
        by_log: dict[str, list[str]] = {}
        for place in places:
            by_log.setdefault(place.log, []).append(place.key)
        async with self._client.pipeline(transaction=False) as pipeline:
            for log, keys in by_log.items():
                pipeline.hmget(self.keys[log].rows, keys)
            replies = await pipeline.execute()
        documents = {log: iter(reply) for log, reply in zip(by_log, replies, strict=True)}
        return [
            self._found(place.log, document) for place in places if (document := next(documents[place.log])) is not None
        ]

    def _found(self, log: str, document: bytes) -> ResultRow[Row]:
        row, position = read_row(self._row, document)
        return ResultRow(row, log, position)


def _symbols(query: IndexQuery, log: str) -> list[Argument]:
    """Those of the symbols whose rows are in a log, and before them how many these are."""
    if query.symbols is None:
        return [-1]
    symbols = query.symbols.get(log, ())
    return [len(symbols), *symbols]


def _words(query: IndexQuery) -> tuple[list[tuple[str, str]], list[Argument], list[Argument]]:
    """The indexes that ``query.lua`` needs of every segment, as (name, group), and its arguments around the symbols."""
    numbers: dict[tuple[str, str], int] = {}

    def number(name: str, group: str = "") -> int:
        return numbers.setdefault((name, group), len(numbers) + 1)

    before: list[Argument] = [
        number(query.sort_by) if query.sort_by else 0,
        0 if query.now is None else number("expiry"),
        0 if query.now is None else query.now,
        int(query.descending),
        query.offset + query.limit + 1 if query.limit else 0,
        *(query.after or ("", "")),
    ]
    clauses: list[Argument] = []
    for clause in query.clauses:
        clauses += (int(clause.sorted), len(clause.ranges))
        for name, group, lowest, highest in clause.ranges:
            clauses += (number(name, group), lowest, highest)
    return list(numbers), before, clauses
