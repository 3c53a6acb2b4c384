"""Queries of ``patterns``, answered from its indexes and counts in Redis."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from redis.asyncio import Redis

from domain.streams import log_of, symbol_stream
from infra.read_models.index_queries import Clause, IndexedRows, IndexQuery, Range
from infra.read_models.pattern_statistics import read_statistics
from projections.base import LOWEST_VALUE
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import Page, PatternQuery, PatternStatistics, ResultRow
from projections.versions import Build

SORT_INDEXES = {
    "confidence": "confidence",
    "detected_at": "detected_at",
    "symbol": None,
    "rs": "relative_strength",
    "volume": "relative_volume",
}
"""Sort parameter of the scan -> index; None sorts by symbol, with which the ids begin."""

HIGHEST_VALUE = float("inf")
"""A bound above every value of a row."""

MANY_SYMBOLS = 100
"""Highest number of symbols that are looked up in the index ``symbol``. With more symbols, as of a universe, the server
compares the symbol in each row's id."""


class RedisPatternQueries:
    """Queries of one build of ``patterns``.

    Args:
        client: An asynchronous client of the server that has the read model.
        build: The build.
        logs: All partitions of the market log.
    """

    source = "redis"

    def __init__(self, client: Redis, build: Build, logs: Sequence[str]) -> None:
        self._client = client
        self._partitions = len(logs)
        self._rows = IndexedRows(client, ActivePatterns(), build, logs)

    def state(self, now: float) -> None:
        """Return None: the state of a read model in Redis is not known without a query."""

    async def scan(self, query: PatternQuery) -> Page[PatternRow]:
        """Return one page of a scan.

        Raises:
            TooDeepError: The offset is higher than ``MAX_OFFSET``, and there are rows at the offset.
        """
        if query.symbols is not None and not query.symbols:
            return Page([], 0, None)
        sort_by = SORT_INDEXES[query.sort_by]
        return await self._rows.page(
            IndexQuery(
                _clauses(query, sort_by),
                sort_by,
                query.descending,
                query.limit,
                query.offset,
                query.after,
                query.now,
                _by_log(symbols, self._partitions) if (symbols := _many_symbols(query.symbols)) else None,
            )
        )

    async def get(self, pattern_id: str, now: float) -> ResultRow[PatternRow] | None:
        """Return one pattern, None if it does not exist or has expired at ``now`` (epoch seconds)."""
        parts = pattern_id.rsplit(":", 3)
        if len(parts) != 4:
            return None
        result = await self._rows.get(log_of(symbol_stream(parts[0]), self._partitions), pattern_id)
        if result is None or (result.row.expires_at is not None and result.row.expires_at <= now):
            return None
        return result

    async def statistics(self, now: float) -> PatternStatistics:
        """Return the counts of the patterns that are active at ``now`` (epoch seconds)."""
        return await read_statistics(self._client, list(self._rows.keys.values()), now)


def _many_symbols(symbols: frozenset[str] | None) -> frozenset[str] | None:
    """Return the symbols if there are more than ``MANY_SYMBOLS``, else None."""
    return symbols if symbols is not None and len(symbols) > MANY_SYMBOLS else None


@lru_cache(maxsize=32)
def _by_log(symbols: frozenset[str], partitions: int) -> Mapping[str, Sequence[str]]:
    """Group symbols by the log that has their patterns. The cache serves the repeated queries for a universe."""
    by_log: dict[str, list[str]] = {}
    for symbol in symbols:
        by_log.setdefault(log_of(symbol_stream(symbol), partitions), []).append(symbol)
    return by_log


def _clauses(query: PatternQuery, sort_by: str | None) -> list[Clause]:
    """Return the clauses of all filters except a filter by many symbols.

    The scores of a group are confidences, so that a clause of groups includes the lower bound of the confidence.
    """
    symbols = None if _many_symbols(query.symbols) else query.symbols
    groups = (("symbol", symbols), ("type", query.pattern_types), ("tier", query.tiers))
    clauses = [
        Clause(
            [Range(index, name, query.confidence_min, HIGHEST_VALUE) for name in names],
            sorted=sort_by == "confidence",
        )
        for index, names in groups
        if names
    ]
    bounds = [
        (index, max(lowest, LOWEST_VALUE), highest)
        for index, (lowest, highest) in (
            ("relative_strength", (query.rs_min, HIGHEST_VALUE)),
            ("relative_volume", (query.vol_min, HIGHEST_VALUE)),
            ("rsi", query.rsi_range or (None, HIGHEST_VALUE)),
        )
        if lowest is not None
    ]
    if not clauses and (query.confidence_min > 0 or not bounds):
        bounds.append(("confidence", query.confidence_min, HIGHEST_VALUE))
    return clauses + [
        Clause([Range(index, "", lowest, highest)], sorted=sort_by == index) for index, lowest, highest in bounds
    ]
